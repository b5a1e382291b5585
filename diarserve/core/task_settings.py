"""What can be set about tasks that survive: where they are kept, and how their clients are told."""

from __future__ import annotations

import base64

from pydantic import Field, SecretStr, field_validator, model_validator

from diarserve.core.section import Section


class Store(Section):
    """Where tasks, recordings and results are kept: by default in data_dir, for one server. Several servers share a
    database and an object store (docs/cluster.md)."""

    url: SecretStr = SecretStr("")  # postgresql://user@host/database; empty: SQLite in data_dir
    objects: str = ""  # s3://bucket/prefix, or file:///folder that all servers mount
    lease_seconds: float = Field(30.0, ge=1)  # without a sign of life, after which others take over a server's tasks

    @property
    def shared(self) -> bool:
        return bool(self.url.get_secret_value())

    @model_validator(mode="after")
    def _is_whole(self) -> Store:
        if self.shared != bool(self.objects):
            raise ValueError("url and objects go together: several servers share the database and the object store")
        if self.shared and not self.url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("url must begin with postgresql://")
        if self.shared and not self.objects.startswith(("s3://", "file:///")):
            raise ValueError("objects must begin with s3:// or file:///")
        return self


class Fetch(Section):
    """Recordings that clients name by a URL: the server asks for them, so nobody's are fetched unless this says so."""

    enabled: bool = False
    allow_private: bool = False  # whether they may be at private and loopback addresses
    timeout: float = Field(30.0, gt=0)  # seconds to connect, and without a byte; the whole: limits.upload_timeout


class Webhooks(Section):
    secret: str = ""  # signs every call (see tasks/signing.py): any text, or whsec_<base64>; empty: unsigned
    allow_private: bool = False  # whether callbacks may go to private and loopback addresses
    retry_hours: float = Field(24.0, gt=0)  # after a task's end, until its callback is given up
    timeout: float = Field(10.0, gt=0)  # seconds for one call

    @field_validator("secret")
    @classmethod
    def _is_base64(cls, secret: str) -> str:
        if secret.startswith("whsec_"):
            text = secret.removeprefix("whsec_")
            try:
                key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            except ValueError:
                key = b""
            if not key:
                raise ValueError("after whsec_ there must be base64")
        return secret
