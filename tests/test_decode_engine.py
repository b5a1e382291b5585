"""Decoding: real containers and codecs, and the files that people send to break a server."""

from __future__ import annotations

import io
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import wave
import zipfile
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest

from diarserve.core.errors import from_job
from tests.support import mutate_wav
from tests.support.drive import drive
from tests.support.encode import encode
from workers.engine import JobError, WorkItem
from workers.media import containers, decoder
from workers.media.decoder import Decoder
from workers.media.samples import Samples, load
from workers.messages import AudioRef, Decode
from workers.runtime.scheduler import Scheduler

RATE = 16_000
Decoded = Callable[..., Samples]


def sample_path() -> Path:
    spec = find_spec("pyannote")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / "audio" / "sample" / "sample.wav"


@pytest.fixture(scope="module")
def sample() -> Samples:
    """The first 10 seconds that have speech, as float32."""
    with wave.open(str(sample_path())) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return (pcm[6 * RATE : 16 * RATE] / 32_768).astype(np.float32)


@pytest.fixture(scope="module")
def engine() -> Decoder:
    return Decoder()


@pytest.fixture
def decoded(engine: Decoder, tmp_path: Path) -> Decoded:
    """Decode a file, or bytes, that a client claims to be called `name`."""

    def run(upload: bytes | Path, name: str = "upload.wav", max_seconds: float = 60.0) -> Samples:
        source = upload if isinstance(upload, Path) else tmp_path / name
        if isinstance(upload, bytes):
            source.write_bytes(upload)
        result = drive(engine, Decode(str(source), str(tmp_path / "out.f32"), max_seconds))
        assert isinstance(result, AudioRef)
        if result.pcm is None:
            assert Path(result.path).stat().st_size == 4 * result.samples
        return load(result)

    return run


@pytest.fixture
def refused(decoded: Decoded, tmp_path: Path) -> Callable[..., str]:
    """The error code of an upload that must fail; its message is fit for people."""

    def run(upload: bytes | Path, name: str = "upload.wav", max_seconds: float = 60.0) -> str:
        with pytest.raises(JobError) as error:
            decoded(upload, name, max_seconds)
        message = error.value.message
        assert str(tmp_path) not in message
        assert "Errno" not in message
        assert "\n" not in message
        return error.value.code

    return run


def wav(samples: np.ndarray, rate: int = RATE, data_size: int | None = None) -> bytes:
    """16-bit PCM of shape (samples,) or (samples, channels); `data_size` is what the header claims."""
    pcm = (np.clip(samples, -1, 1) * 32_767).astype("<i2")
    channels = 1 if pcm.ndim == 1 else pcm.shape[1]
    data: bytes = pcm.tobytes()
    size = len(data) if data_size is None else data_size
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * channels * 2, channels * 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", min(size + 36, 2**32 - 1))
        + b"WAVEfmt "
        + form
        + (b"data" + struct.pack("<I", size) + data)
    )


def likeness(one: Samples, other: Samples) -> float:
    """The best correlation within 0.1 s of shift: codecs delay."""
    size = one.size + other.size
    products = np.fft.irfft(np.fft.rfft(other, size) * np.conj(np.fft.rfft(one, size)), size)
    near = np.concatenate([products[:1_600], products[-1_600:]])
    return float(near.max() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize(
    ("name", "form", "codec", "rate", "video"),
    [
        ("a.flac", "flac", "flac", 16_000, ""),
        ("a.mp3", "mp3", "libmp3lame", 44_100, ""),
        ("a.m4a", "ipod", "aac", 44_100, ""),
        ("a.aac", "adts", "aac", 44_100, ""),
        ("a.ogg", "ogg", "libopus", 48_000, ""),
        ("a.webm", "webm", "libopus", 48_000, ""),
        ("a.mp4", "mp4", "aac", 48_000, "mpeg4"),
        ("a.mkv", "matroska", "libmp3lame", 32_000, "mpeg4"),
        ("a.aiff", "aiff", "pcm_s16be", 22_050, ""),
        ("a.wav", "wav", "pcm_f32le", 48_000, ""),
    ],
)
def test_real_files(
    decoded: Decoded, tmp_path: Path, sample: Samples, name: str, form: str, codec: str, rate: int, video: str
) -> None:
    result = decoded(encode(tmp_path / name, form, codec, sample, rate, video))
    assert result.size / RATE == pytest.approx(sample.size / RATE, abs=0.1)
    assert likeness(sample, result) > 0.95


def test_wav_is_exact(decoded: Decoded, sample: Samples) -> None:
    result = decoded(sample_path())
    assert result.size == 30 * RATE
    assert np.abs(result[6 * RATE : 16 * RATE] - sample).max() < 1e-4


@pytest.mark.parametrize("channels", [2, 3, 5, 6, 8])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_mono_is_the_mean_of_the_channels(decoded: Decoded, channels: int, rate: int) -> None:
    levels = np.linspace(-0.1, 0.8, channels)
    result = decoded(wav(np.tile(levels, (rate, 1)), rate))
    assert result.size == pytest.approx(RATE, abs=2)
    assert np.median(result) == pytest.approx(levels.mean(), abs=1e-3)


def test_float_files_may_hold_anything(decoded: Decoded, tmp_path: Path) -> None:
    wild = np.tile(np.array([np.nan, np.inf, -np.inf, 1e30, 0.5], np.float32), 4_000)
    result = decoded(encode(tmp_path / "wild.wav", "wav", "pcm_f32le", wild))
    assert np.isfinite(result).all()
    assert np.abs(result).max() <= 1


def test_many_steps(engine: Decoder, decoded: Decoded, tmp_path: Path, sample: Samples) -> None:
    """More than a minute takes more than one step, and a job may be dropped between two."""
    path = tmp_path / "long.wav"
    path.write_bytes(wav(np.tile(sample, 15)))
    assert decoded(path, max_seconds=150.0).size == 150 * RATE
    job = engine.job(Decode(str(path), str(tmp_path / "dropped.f32"), 200.0))
    phase = next(job)
    [outcome] = engine.run(phase)
    assert outcome is None  # there is more
    assert 60 * RATE <= (tmp_path / "dropped.f32").stat().st_size / 4 < 70 * RATE
    job.close()
    assert engine.run(phase) == [None]  # a step that was under way ends in peace


def test_a_few_bad_packets_do_no_harm(decoded: Decoded, tmp_path: Path, sample: Samples) -> None:
    data = bytearray(encode(tmp_path / "a.mp3", "mp3", "libmp3lame", sample, 44_100).read_bytes())
    for place in (len(data) // 3, len(data) // 2):
        data[place : place + 500] = b"\xff" * 500
    assert decoded(bytes(data)).size / RATE == pytest.approx(10, abs=0.5)


def test_not_media(refused: Callable[..., str]) -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.wav\n#EXT-X-ENDLIST\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.wav", wav(np.zeros(100)))
    for upload in (
        b"Dear server, this is not audio. " * 100,
        playlist,
        b"\x89PNG\r\n\x1a\n" + bytes(1_000),
        bytes(1_000_000),
        archive.getvalue(),
        b"<?xml version='1.0'?><MPD></MPD>",
        b"R",
        b"\xff\xff\xff\xff" * 10,
    ):
        assert refused(upload) == "unsupported_media"
    assert refused(b"") == "empty_audio"


def test_scripts_read_no_other_file(refused: Callable[..., str], tmp_path: Path, sample: Samples) -> None:
    (tmp_path / "secret.wav").write_bytes(wav(sample))
    secret = str(tmp_path / "secret.wav").encode()
    assert refused(b"ffconcat version 1.0\nfile secret.wav\n") == "unsupported_media"
    for magic in (b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"ID3\4\0\0\0\0\0\0", b"\x1a\x45\xdf\xa3", b"#!AMR\n"):
        assert refused(magic + b"\nffconcat version 1.0\nfile " + secret + b"\n") != ""


@pytest.mark.parametrize(
    "name", ["concat:secret.wav|x", "subfile,,start,0,end,0,,:secret.wav", "sine=440", "a%03d.wav", "http:x"]
)
def test_a_name_is_only_a_name(decoded: Decoded, tmp_path: Path, sample: Samples, name: str) -> None:
    (tmp_path / "secret.wav").write_bytes(wav(np.zeros(5 * RATE)))
    assert decoded(wav(sample), name).size == sample.size


def test_broken_promises(refused: Callable[..., str], decoded: Decoded, tmp_path: Path, sample: Samples) -> None:
    whole = wav(sample)
    assert refused(whole[: len(whole) // 2]) == "truncated"
    assert refused(wav(sample[:RATE], data_size=10 * 3_600 * RATE * 2)) == "truncated"
    flac = encode(tmp_path / "a.flac", "flac", "flac", sample).read_bytes()
    assert refused(flac[: len(flac) // 2]) == "truncated"
    aiff = encode(tmp_path / "a.aiff", "aiff", "pcm_s16be", sample).read_bytes()
    assert refused(aiff[: len(aiff) // 2]) == "truncated"
    for placeholder in (0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF):
        assert decoded(wav(sample, data_size=placeholder)).size == sample.size
    mp4 = encode(tmp_path / "a.mp4", "mp4", "aac", sample, 48_000).read_bytes()
    assert refused(mp4[: len(mp4) // 2]) == "undecodable"


def test_a_damaged_wav_header_is_the_files_fault(engine: Decoder, tmp_path: Path) -> None:
    """`python -m tests.support.mutate_wav` does the same with thousands."""
    outcomes = {mutate_wav.outcome(engine, upload, tmp_path) for upload in mutate_wav.damaged(600)}
    assert {outcome[:3] for outcome in outcomes} == {"200", "415", "422"}, outcomes


def test_limits(refused: Callable[..., str], decoded: Decoded) -> None:
    second = np.zeros((192_000, 8))
    assert refused(wav(second, 192_000)) == "unsupported_media"
    assert refused(wav(np.zeros((4_000, 9)))) == "unsupported_media"
    assert refused(wav(np.zeros(4_000), 10)) == "unsupported_media"
    assert decoded(wav(second[:, :2], 192_000)).size == pytest.approx(RATE, abs=2)
    assert decoded(wav(np.zeros(10 * RATE)), max_seconds=10).size == 10 * RATE
    assert refused(wav(np.zeros(10 * RATE + 1)), max_seconds=10) == "too_long"
    assert refused(wav(np.zeros(0))) == "empty_audio"


def test_silence_in_flac_unpacks_only_so_far(refused: Callable[..., str], tmp_path: Path) -> None:
    path = encode(tmp_path / "bomb.flac", "flac", "flac", np.zeros(600 * RATE, np.float32))
    assert refused(path, max_seconds=100) == "too_long"
    assert (tmp_path / "out.f32").stat().st_size < 110 * RATE * 4


def test_a_full_disk_is_told_and_stays_free(refused: Callable[..., str], tmp_path: Path, sample: Samples) -> None:
    flac = encode(tmp_path / "a.flac", "flac", "flac", sample)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * RATE, hard))  # of ten seconds, there is room for one
    try:
        assert refused(flac) == "storage_full"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "out.f32").stat().st_size == 0
    seen_by_the_client = from_job("storage_full", "")
    assert (seen_by_the_client.status, seen_by_the_client.retry_after) == (507, 60)


def test_no_sound_and_no_sense(refused: Callable[..., str], tmp_path: Path, sample: Samples) -> None:
    film = tmp_path / "silent.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        image = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    assert refused(film) == "no_audio"
    noise = np.random.default_rng(0).bytes(200_000)
    for magic in (b"OggS", b"ID3\4\0\0\0\0\0\0", b"\x1a\x45\xdf\xa3", b"\0\0\0\x20ftypM4A ", b"FORM\0\0\0\0AIFF"):
        assert refused(magic + noise) in {"undecodable", "no_audio", "empty_audio"}


def test_sniff_needs_no_decoder() -> None:
    code = "import sys, workers.media.containers; print('av' in sys.modules, 'numpy' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert output.split() == ["False", "False"]
    assert containers.sniff(wav(np.zeros(10))[: containers.HEAD]) == "wav"
    assert containers.sniff(b"RIFF....AVI LIST") is None


def test_a_runaway_step_is_ended_by_the_kernel() -> None:
    code = "from workers.media.cpu_limit import CpuLimit\nwith CpuLimit().step(1):\n    while True: pass"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGXCPU


class Held:
    """A step of a decoder in a thread of its own, which ends when it is told to."""

    def __init__(self, engine: Decoder) -> None:
        self._begun, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=engine.run, args=([WorkItem("decode", self._steps())],))
        self._thread.start()
        self._begun.wait()

    def _steps(self) -> Generator[None, None, None]:
        self._begun.set()
        self._over.wait()
        yield

    def end(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_overlapping_steps_leave_no_limit_of_cpu_time_behind(engine: Decoder, first_to_end: int) -> None:
    def allowed() -> float:
        return resource.getrlimit(resource.RLIMIT_CPU)[0] - time.process_time()

    before = resource.getrlimit(resource.RLIMIT_CPU)
    steps = [Held(engine), Held(engine)]
    both = allowed()
    steps.pop(first_to_end).end()
    one = allowed()
    steps.pop().end()
    assert 0 < one <= engine.step_cpu_seconds + 1  # the limit is in whole seconds
    assert one < both <= 2 * engine.step_cpu_seconds + 1
    assert resource.getrlimit(resource.RLIMIT_CPU) == before


def test_a_decoder_in_a_thread_of_the_server_does_not_limit_the_server() -> None:
    engine = Decoder()
    scheduler = Scheduler(engine, lambda message: None, fill=None, step_timeout=None)
    before = resource.getrlimit(resource.RLIMIT_CPU)
    step = Held(engine)
    meanwhile = resource.getrlimit(resource.RLIMIT_CPU)
    step.end()
    scheduler.close()
    assert meanwhile == before


def test_a_wav_that_needs_no_decoder_gives_what_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def audio(name: str) -> AudioRef:
        result = drive(Decoder(), Decode(str(sample_path()), str(tmp_path / name), 60.0))
        assert isinstance(result, AudioRef)
        return result

    in_place = audio("none")
    assert in_place.path == str(sample_path())
    assert (tmp_path / "none").stat().st_size == 0
    monkeypatch.setattr(decoder, "IN_PLACE_SECONDS", 10.0)
    copied = audio("copied")
    assert copied.path == str(tmp_path / "copied")
    monkeypatch.setattr(decoder, "plain_reader", lambda file: None)
    decoded = audio("decoded")
    assert load(in_place).dtype == np.float32
    assert np.array_equal(load(in_place), load(decoded))
    assert (tmp_path / "copied").read_bytes() == (tmp_path / "decoded").read_bytes()
