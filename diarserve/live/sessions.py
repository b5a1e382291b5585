"""The live sessions of a server: how many there may be, what each needs, and what stays of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from diarserve.core.errors import Busy, NotFound, NotReady, ServiceError
from diarserve.core.settings import MIB
from diarserve.live.audio_file import HEADER, AudioFile
from diarserve.live.options import LiveOptions
from diarserve.live.session import LiveSession, OpenJob
from diarserve.live.unpacking import Unpacking
from diarserve.pool.live_job import LiveJob, OnOutput
from diarserve.service.diarizer_choice import choose
from diarserve.service.service import Service
from diarserve.tasks import views
from diarserve.tasks.completion import run_to_completion
from diarserve.tasks.task import new_id
from diarserve.transcript.document import Document, decode
from workers.messages import AudioRef, Follow, Listen, Unpack


class LiveSessions:
    """sessions = LiveSessions(service)
    session = sessions.open(LiveOptions(), owner=client.owner)
    ...
    await sessions.close()  # before the service is stopped
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limits = service.settings.live
        self._open: dict[str, LiveSession] = {}
        self._owners: dict[str, str] = {}  # of the open ones
        service.metrics.live_worst_lag.set_function(self._worst_lag)

    def __len__(self) -> int:
        return len(self._open)

    def _worst_lag(self) -> float:
        """Safe in any thread."""
        return max((session.lag for session in tuple(self._open.values())), default=0.0)

    def require_room(self) -> None:
        """Raises Busy (429) where there are as many sessions as may be, and NotReady (503)."""
        if len(self._open) >= self._limits.max_sessions:
            raise Busy("There are as many live sessions as may be; try again later.", retry_after=10)
        if self._service.stopping:
            raise NotReady("The server is shutting down.", retry_after=5)
        if self._service.draining:
            raise NotReady("The server takes no new work: it is drained for maintenance.", retry_after=60)
        self._service.require_ready()
        if not self._service.lanes.whisper.info.get("live"):
            raise NotReady("The recognizer of this configuration does not take live audio.")

    def open(self, options: LiveOptions, owner: str = "", hours: float | None = None) -> LiveSession:
        """hours: of audio that the owner may have in 24 hours. Raises Busy, NotReady and LaneUnavailable,
        InvalidRequest for options that this configuration cannot do, RateLimited and StorageFull. After that, errors
        are the session's last event."""
        self.require_room()
        self._service.check(options.options, owner)
        spool = self._service.spool
        folder = spool.new(new_id())
        try:
            if hours is not None:
                self._service.audio.reserve(owner, folder.name, 0.0, hours)
            audio = AudioFile(str(folder / "upload"), spool.disk)
        except BaseException:
            self._service.audio.release(owner, folder.name)
            spool.remove(folder)
            raise
        session = LiveSession(
            folder.name,
            options,
            audio,
            self._limits,
            self._service.metrics,
            partial(self._count, owner, folder.name, hours),
            partial(self._unpack, folder),
            partial(self._document, folder, options, owner),
            partial(self._release, folder, owner, audio),
        )
        try:
            session.start(self._listen(audio, options, folder.name), self._follow(audio, options, folder.name))
        except BaseException:
            audio.close()
            self._service.audio.release(owner, folder.name)
            spool.remove(folder)
            raise
        self._open[folder.name], self._owners[folder.name] = session, owner
        self._service.metrics.live_sessions.set(len(self._open))
        return session

    async def close(self, owner: str | None = None) -> None:
        """End all sessions, or this owner's."""
        ending = [session for id, session in self._open.items() if owner in (None, self._owners[id])]
        await asyncio.gather(*(session.close() for session in ending))

    def _unpack(
        self, folder: Path, take: Callable[[bytes], Awaitable[None]], on_error: Callable[[ServiceError], None]
    ) -> Unpacking:
        """Raises NotReady, StorageFull and OSError."""
        lane, disk = self._service.lanes.decode, self._service.spool.disk

        def open_job(path: str, on_output: OnOutput) -> LiveJob:
            return lane.open(Unpack(AudioRef(path, 0)), task=folder.name, on_output=on_output)

        most = self._service.settings.limits.max_upload_mib * MIB
        return Unpacking(str(folder / "container"), disk, open_job, take, most, on_error)

    def _listen(self, audio: AudioFile, options: LiveOptions, task: str) -> OpenJob:
        asked = options.options
        request = Listen(
            AudioRef(audio.path, 0, pcm=HEADER),
            language=asked.language,
            model=asked.whisper_model,
            prompt=asked.prompt,
            hotwords=asked.hotwords,
            interim=options.interim,
            endpointing=options.endpointing,
        )
        return lambda on_output: self._service.lanes.whisper.open(request, task=task, on_output=on_output)

    def _follow(self, audio: AudioFile, options: LiveOptions, task: str) -> OpenJob | None:
        """None where no diarizer takes live audio. The one that is asked for, if it does; else as for a recording."""
        lanes = self._service.lanes.diarizers
        able = {name: lane for name, lane in lanes.items() if lane.available and lane.info.get("live")}
        if not able:
            return None
        asked, default = options.options, self._service.settings.diarizer
        if asked.diarizer not in able:
            asked = asked.model_copy(update={"diarizer": None})
        lane = choose(asked, default if default in able else "auto", able, seconds=0.0)
        counts = (asked.num_speakers, asked.min_speakers, asked.max_speakers)
        request = Follow(AudioRef(audio.path, 0, pcm=HEADER), *counts)
        return lambda on_output: lane.open(request, task=task, on_output=on_output)

    def _count(self, owner: str, task: str, hours: float | None, seconds: float) -> None:
        """Raises RateLimited."""
        if hours is not None:
            self._service.audio.extend(owner, task, seconds, hours)

    def _release(self, folder: Path, owner: str, audio: AudioFile) -> None:
        """The session is over. Its folder is elsewhere where it became a task's. Its audio was heard, whatever became
        of the document."""
        self._service.audio.settle(owner, folder.name, audio.seconds)
        self._open.pop(folder.name, None)
        self._owners.pop(folder.name, None)
        self._service.metrics.live_sessions.set(len(self._open))
        self._service.spool.remove(folder)

    async def _document(self, folder: Path, options: LiveOptions, owner: str) -> Document:
        """The whole by the offline path, as a durable task: it is made also where the session is closed meanwhile.
        Raises ServiceError."""
        backlog, store = self._service.backlog, self._service.store
        # Urgent, as of a client that waits.
        [row] = await backlog.submit([(folder, options.filename)], options.options, "high", owner=owner)
        try:
            await backlog.ended(row)
            ended = await store.get(row.id)
            if ended and ended.error:
                raise views.problem(ended.error)
            if (body := await store.result(row.id)) is None:
                raise NotFound("The document of this session was deleted.")
            return decode(body)
        finally:
            if not options.keep:
                await run_to_completion(backlog.delete(row.id))
