"""Where workers on other machines call: for their frames, and for the audio of their jobs."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from diarserve.core.settings import Cluster
from diarserve.pool.parcels import Parcels
from workers.messages.remote import Call, Challenge, Fetch, Greeting, Place, Proof, Purpose
from workers.remote import handshake
from workers.remote.handshake import Streams
from workers.runtime.channel import ProtocolError

log = logging.getLogger(__name__)

_BLOCK = 1 << 20  # bytes
_STRANGERS = 64  # connections at a time whose other side is not known yet


@dataclass(slots=True, eq=False)
class Expected:
    """A worker that was told to call."""

    call: Call
    came: asyncio.Future[tuple[Place, Streams]]


class Gateway:
    def __init__(self, settings: Cluster, data_dir: Path) -> None:
        self.parcels = Parcels()
        self._settings = settings
        self._data_dir = data_dir
        self._expected: dict[str, Expected] = {}
        self._strangers = 0
        self._server: asyncio.Server | None = None
        self._address = ("", 0)
        self._certificate: bytes | None = None

    async def start(self, host: str) -> None:
        """Listen on the settings' address, on `host` by default. Raises OSError."""
        context = None
        if self._settings.certificate and self._settings.key:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(self._settings.certificate, self._settings.key)
            pem = await asyncio.to_thread(self._settings.certificate.read_text)
            self._certificate = ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END CERTIFICATE-----") + 25] + "\n")
        listen = self._settings.listen or host
        self._server = await asyncio.start_server(self._welcome, listen, self._settings.port, ssl=context)
        port = self._server.sockets[0].getsockname()[1]
        self._address = (self._settings.advertise or host, port)
        log.info("workers on other machines call %s:%d%s", *self._address, " with TLS" if context else "")

    def close(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    def expect(self) -> Expected:
        """A new worker, with a token of its own. Forget it at its end."""
        stat = os.stat(self._data_dir)
        call = Call(
            *self._address,
            worker=secrets.token_hex(8),
            token=secrets.token_bytes(32),
            certificate=self._certificate,
            data_dir=str(self._data_dir.absolute()),
            data_id=(stat.st_dev, stat.st_ino),
            share_files=self._settings.share_files,
            cache_dir=str(self._settings.cache_dir or ""),
            cache_bytes=self._settings.cache_mib * 1024 * 1024,
        )
        expected = self._expected[call.worker] = Expected(call, asyncio.get_running_loop().create_future())
        return expected

    def forget(self, expected: Expected) -> None:
        """Whoever calls with its token from now on is refused."""
        self._expected.pop(expected.call.worker, None)
        expected.came.cancel()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._strangers >= _STRANGERS:
            writer.transport.abort()
            return
        self._strangers += 1
        try:
            async with asyncio.timeout(handshake.TIMEOUT):
                purpose, expected, place = await self._known(reader, writer)
                fetch = await handshake.receive(reader, Fetch) if purpose == "audio" else None
        except (handshake.Distrust, ProtocolError) as error:
            log.warning("a caller of the workers' port was refused: %s", error)
            writer.transport.abort()
            return
        except (EOFError, OSError, TimeoutError):
            writer.transport.abort()
            return
        finally:
            self._strangers -= 1
        if fetch:
            await self._send(fetch.sha256, writer)
        else:
            expected.came.set_result((place, (reader, writer)))

    async def _known(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Purpose, Expected, Place]:
        handshake.tune(writer)
        greeting = await handshake.receive(reader, Greeting)
        expected, nonce = self._expected.get(greeting.worker), os.urandom(handshake.NONCE)
        if expected is None or len(greeting.nonce) != handshake.NONCE:
            raise handshake.Distrust("it is no worker that is waited for")
        nonces, token = (greeting.nonce, nonce), expected.call.token
        await handshake.send(writer, Challenge(nonce, handshake.proof(token, "server", greeting.purpose, *nonces)))
        answer = await handshake.receive(reader, Proof)
        if not hmac.compare_digest(answer.proof, handshake.proof(token, "worker", greeting.purpose, *nonces)):
            raise handshake.Distrust("it does not know its token")
        if greeting.purpose == "channel" and expected.came.done():
            raise handshake.Distrust("this worker has called before, or is given up")
        return greeting.purpose, expected, answer.place

    async def _send(self, sha256: str, writer: asyncio.StreamWriter) -> None:
        """The bytes; none of what is not offered, or gone. Not by `loop.sendfile`, which uvloop does not have."""
        try:
            if parcel := self.parcels.get(sha256):
                file = await asyncio.to_thread(open, parcel.path, "rb")
                with file:
                    file.seek(parcel.offset)
                    left = parcel.size
                    while left and (block := await asyncio.to_thread(file.read, min(left, _BLOCK))):
                        left -= len(block)
                        writer.write(block)
                        await writer.drain()
        except OSError as error:
            log.warning("audio could not be sent to a worker: %r", error)
            writer.transport.abort()
        else:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
