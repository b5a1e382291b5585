"""What can be set, with its type and default. diarserve.core.configuration reads it from files and environment."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    IPvAnyNetwork,
    SecretStr,
    model_validator,
)

from diarserve.core.lane_settings import MAX_WORKERS as MAX_WORKERS
from diarserve.core.lane_settings import Cluster as Cluster
from diarserve.core.lane_settings import Json as _Json
from diarserve.core.lane_settings import Lane as Lane
from diarserve.core.section import Section as _Section
from diarserve.core.task_settings import Fetch, Store, Webhooks
from diarserve.core.tracing_settings import Tracing
from diarserve.core.types import Diarizer, Role

MIB = 1024 * 1024
KEY = re.compile("dsk_[A-Za-z0-9_-]{43}")  # an access key
Level = Annotated[
    Literal["debug", "info", "warning", "error"],
    BeforeValidator(lambda level: level.lower() if isinstance(level, str) else level),
]


def _unless_false(section: Any) -> Any:
    return None if section is False or str(section).lower() == "false" else section


OptionalLane = Annotated[Lane | None, BeforeValidator(_unless_false)]


class Limits(_Section):
    max_upload_mib: int = Field(2048, gt=0)
    max_audio_seconds: float = Field(6 * 3600.0, gt=0)
    # Recordings that have come and whose clients wait, each of a batch counted; one more is answered 429.
    max_pending: int = Field(128, gt=0)
    # Client connections that may be open; one more is answered 503. By default as many as the process's descriptors
    # allow (diarserve/http/connections.py), and at most 4096.
    max_connections: int | None = Field(None, gt=0)
    max_uploads: int = Field(512, gt=0)  # under way at a time; one more is answered 429. Each takes some 0.2 MB
    # Of one address (an IPv6 network of 64 bits), or one client that a trusted proxy names; more are answered 429.
    max_client_connections: int = Field(256, gt=0)
    max_client_requests: int = Field(128, gt=0)  # at a time
    head_timeout: float = Field(20.0, gt=0)  # seconds from a connection's start to the end of its first request's head
    idle_timeout: float = Field(75.0, gt=0)  # seconds between requests, and for an answer that the client does not take
    min_free_mib: int = Field(256, ge=0)  # disk space left alone; below it uploads are answered 507
    # Disk space that only deletions use: a disk that is full stays one on which something can be deleted.
    reserve_mib: int = Field(16, ge=0)
    storage_wait_hours: float = Field(24.0, gt=0)  # that a task waits for room on a full disk before it fails
    upload_timeout: float = Field(3600.0, gt=0)  # seconds for a whole body
    # Slower uploads are answered 408. A phone on a bad network sends some 10 kB/s, and nothing for seconds at times.
    min_upload_rate: int = Field(4000, ge=0)  # bytes per second
    upload_rate_window: float = Field(15.0, gt=0)  # seconds over which it is measured
    attempts: int = Field(3, ge=1)  # tries of a job whose worker died, and of a task whose server died
    max_batch_files: int = Field(100, gt=0)
    max_queued: int = Field(10_000, gt=0)  # tasks that wait; one more is answered 429
    running: int = Field(4, gt=0)  # tasks of each priority in the pipeline at a time
    keep_results_hours: float = Field(24.0, gt=0)


class AccessKey(_Section):
    """One access key, in the environment, a configuration file or the keys file (diarserve/access/key_file.py).

    Its SHA-256 is enough, so that the key itself need not be written anywhere. A slow hash, as for passwords, would
    protect what can be guessed; 256 random bits cannot.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
    role: Role
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""  # of the key, in hexadecimal
    key: SecretStr | None = None  # or the key itself
    tasks_of: str = ""  # id or name of the key whose tasks it shares; empty: it has its own
    requests_per_minute: int | None = Field(None, gt=0)
    concurrent: int | None = Field(None, gt=0)  # requests at a time
    audio_hours_per_day: float | None = Field(None, gt=0)
    created: datetime | None = None
    revoked: datetime | None = None

    @model_validator(mode="after")
    def _has_a_key(self) -> AccessKey:
        if self.key is not None:
            if not KEY.fullmatch(self.key.get_secret_value()):
                raise ValueError("key is not one that `diarserve keys add` makes: dsk_ and 43 characters")
        elif not self.sha256:
            raise ValueError("sha256 or key is missing")
        return self


class Access(_Section):
    """Who may ask for what. Without any key everybody may, and the server listens on loopback only."""

    keys: Annotated[list[AccessKey], _Json] = Field(default_factory=list)
    keys_file: Path | None = None  # written by `diarserve keys`; default: keys.json in data_dir
    open: bool = False  # whether other hosts than loopback may be served without keys
    # Names by which browsers may reach a server without keys, beside localhost and `host`; checked whenever it is set.
    hosts: Annotated[list[str], _Json] = Field(default_factory=list)
    # Web pages of other servers that may use this one (CORS): https://app.example.org
    origins: Annotated[list[Annotated[str, Field(pattern=r"^https?://[^/*\s]+$")]], _Json] = Field(default_factory=list)
    # A second port, for /metrics and /stats without a key.
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    metrics_host: str = "127.0.0.1"
    # Networks of reverse proxies, whose X-Forwarded-For and X-Forwarded-Proto are believed.
    trusted_proxies: Annotated[list[IPvAnyNetwork], _Json] = Field(default_factory=list)


class Tls(_Section):
    """Files in PEM; both or none. They are read again when they change."""

    certificate: Path | None = None  # with those of intermediate authorities after it
    key: Path | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self


class Subtitles(_Section):
    """How SRT and VTT are cut into cues."""

    line_length: int = Field(42, ge=10)  # characters; a longer word stands on a line of its own
    lines: int = Field(2, ge=1)
    seconds: float = Field(7.0, gt=0)  # that a cue is shown at most; a longer word is shown as long as it lasts


class Voices(_Section):
    """Voices that are kept for later requests, so that speakers are called by their names (docs/voices.md). They are
    biometric data: off by default, and encrypted."""

    enabled: bool = False
    # 32 random bytes in base64 (`openssl rand -base64 32`), in the environment as DIARSERVE_VOICES_KEY; or a file with
    # such a key, or several, one a line: the first encrypts, all decrypt.
    key: SecretStr | None = None
    key_file: Path | None = None
    max_voices: int = Field(1000, gt=0)  # of one access key
    min_seconds: float = Field(3.0, gt=0)  # of speech in a sample
    max_clipping: float = Field(0.01, ge=0, le=1)  # share of a sample's samples that are clipped


class Live(_Section):
    """Live sessions (docs/live.md)."""

    max_sessions: int = Field(8, ge=0)  # at a time; one more is answered 429. 0: there are none
    max_seconds: float = Field(4 * 3600.0, gt=0)  # of audio in one session
    idle_timeout: float = Field(60.0, gt=0)  # seconds without audio, after which a session is ended
    max_lag: float = Field(30.0, gt=0)  # seconds that recognition may be behind before no more audio is taken in


class Settings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    data_dir: Path = Path("data")
    stop_seconds: float = Field(25.0, ge=0)  # for requests under way to end, once the server is told to stop
    log_level: Level = "info"
    parallel_processing: bool = True  # false: one model after the other, the baseline to measure against
    use_process_pool: bool = True  # false: the models in threads of the server, without limits or environments
    download_models: bool = False  # from their hubs, where they are named and not here; else nothing asks the network
    gpu_memory_optimization: bool = False  # on a GPU: int8 weights for Whisper, and no cache is kept between jobs
    diarizer: Diarizer = "auto"  # where a request names none
    log_modules: Annotated[dict[str, Level], _Json] = Field(default_factory=dict)  # of single modules
    limits: Limits = Limits()
    webhooks: Webhooks = Webhooks()
    fetch: Fetch = Fetch()
    subtitles: Subtitles = Subtitles()
    access: Access = Access()
    tls: Tls = Tls()
    voices: Voices = Voices()
    live: Live = Live()
    store: Store = Store()
    tracing: Tracing = Tracing()
    cluster: Cluster = Cluster()
    decode: Lane
    whisper: Lane
    # The diarizers, of which one is needed.
    embedded: OptionalLane = None
    sortformer: OptionalLane = None
    clustering: OptionalLane = None
    separate: OptionalLane = None  # for source_separation
    align: OptionalLane = None  # for enhanced_alignment
    embed: OptionalLane = None  # for known voices, where there is no [embedded], which does it too

    @property
    def diarizers(self) -> dict[str, Lane]:
        """By the name that a request chooses them by."""
        lanes = {"embedded": self.embedded, "sortformer": self.sortformer, "clustering": self.clustering}
        return {name: lane for name, lane in lanes.items() if lane}

    def fingerprint(self) -> str:
        """12 hexadecimal digits that differ where the settings do. Secrets are left out, so that it tells nothing of
        them."""
        secrets: Any = {"webhooks": {"secret"}, "access": {"keys"}, "voices": {"key"}}
        return hashlib.sha256(self.model_dump_json(exclude=secrets).encode()).hexdigest()[:12]

    @model_validator(mode="after")
    def _has_one_server(self) -> Settings:
        if self.voices.enabled and self.store.shared:
            raise ValueError("[voices] enabled: voices are kept by one server, and [store] url has several")
        return self

    @model_validator(mode="after")
    def _diarizes(self) -> Settings:
        if not self.diarizers:
            raise ValueError("one of [embedded], [sortformer] and [clustering] is needed")
        if self.diarizer != "auto" and self.diarizer not in self.diarizers:
            raise ValueError(f"diarizer is {self.diarizer!r}, which is not configured")
        return self

    @model_validator(mode="after")
    def _has_a_cluster(self) -> Settings:
        elsewhere = [name for name in LANES if (lane := getattr(self, name)) and lane.place == "ray"]
        if elsewhere and not self.cluster.address:
            raise ValueError(f'[{elsewhere[0]}] has place = "ray", and [cluster] no address')
        if wrong := {"decode", "separate"}.intersection(elsewhere):  # they write files that others read
            raise ValueError(f"the workers of [{min(wrong)}] are always on the server's machine")
        return self


def _section_of(annotation: Any) -> type[_Section] | None:
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, _Section)), None)


# By the section's name.
SECTIONS = {name: kind for name, field in Settings.model_fields.items() if (kind := _section_of(field.annotation))}
LANES = tuple(name for name, kind in SECTIONS.items() if kind is Lane)
