"""The client for asyncio. All errors: diarserve.client.errors, beside OSError for files that cannot be read."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack
from uuid import uuid4

import msgspec

from diarserve.client import batch, live, retries, sse, tasks, uploads
from diarserve.client.changes import Change, Revise, Revised
from diarserve.client.connection import Connection, decoded, quoted
from diarserve.client.document import Document
from diarserve.client.errors import ClientError, Unreachable
from diarserve.client.options import Format, LiveOptions, Options, Recording, fields
from diarserve.client.tasks import Accepted, Event, Progress, Sentence, TasksPage, TaskStatus
from diarserve.client.voices import StoredVoice, VoicesPage

_FETCHED = 3600.0  # seconds that the server may take to fetch a recording, as its [limits] upload_timeout is by default

OnProgress = Callable[[Progress], object]


class AsyncClient:
    """One server. Calls may be made at the same time; connections are shared.

    url: of the server, with the path prefix where it has one; default: the variable DIARSERVE_URL, else
    http://127.0.0.1:8000. api_key: default: the variable DIARSERVE_API_KEY. patience: seconds that a call may wait to
    be tried again where the server is away or busy (`Retry-After` is kept to); 0: no call is. tls: where the server's
    certificate is not known to this machine: ssl.create_default_context(cafile=...).

    >>> async with AsyncClient("http://127.0.0.1:8000") as client:
    ...     document = await client.transcribe("call.wav", num_speakers=2)
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        patience: float = retries.PATIENCE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connection = Connection(url, api_key, patience, tls)

    @property
    def url(self) -> str:
        return self._connection.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connection.close()

    async def transcribe(
        self,
        recording: Recording | None = None,
        *,
        url: str | None = None,
        filename: str | None = None,
        on_progress: OnProgress | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Document:
        """Submit, wait, and fetch the document. It survives a broken connection and a restart of the server. Raises
        ServerError as `submit` and `result` do, for a recording that cannot be transcribed too."""
        options.setdefault("priority", "high")
        accepted = await self.submit(recording, url=url, filename=filename, idempotency_key=idempotency_key, **options)
        await self.wait(accepted.task_id, on_progress=on_progress)
        return await self.result(accepted.task_id)

    async def submit(
        self,
        recording: Recording | None = None,
        *,
        url: str | None = None,
        filename: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Accepted:
        """Upload a recording: a path, bytes or an open file. Once this returns, the task will be worked on.

        url: instead of a recording, where the server is to fetch it: one whose [fetch] is enabled does, else it raises
        InvalidRequest. `filename` and `known_speakers` are for uploads.
        idempotency_key: the same key and recording again are the same task. By default one is made up, so that the
        tries of this call are one task.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid4()), "Prefer": "respond-async"}
        if url is not None:
            if recording is not None or filename is not None or options.get("known_speakers"):
                raise ValueError("a url stands alone: no recording, filename or known_speakers beside it")
            return await self._submit_url(url, headers, options)
        if recording is None:
            raise ValueError("a recording or its url is needed")
        async with uploads.form([("file", recording)], options, filename=filename) as form:
            body = await self._connection.call("POST", "/transcribe/async", data=form.data, headers=headers)
        return decoded(body, Accepted)

    async def _submit_url(self, url: str, headers: dict[str, str], options: Options) -> Accepted:
        headers |= {"Content-Type": "application/json"}
        body = await self._connection.call(
            "POST",
            "/transcribe/async",
            query=list(fields(options)),
            data=lambda: msgspec.json.encode({"url": str(url)}),
            headers=headers,
            silence=_FETCHED,
        )
        return decoded(body, Accepted)

    async def status(self, task_id: str) -> TaskStatus:
        answer = await self._connection.ask(tasks.StatusAnswer, "GET", f"/status/{quoted(task_id)}")
        return answer.status

    async def wait(
        self,
        task_id: str,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> TaskStatus:
        """Until the task has ended, however it did: its status says. on_progress: called with each Progress.
        Raises TimeoutError after `timeout` seconds; the task goes on."""
        async with asyncio.timeout(timeout), aclosing(self.events(task_id)) as news:
            async for event in news:
                if isinstance(event, Progress) and on_progress:
                    on_progress(event)
                elif isinstance(event, TaskStatus):
                    return event
        raise AssertionError("events end with the task's status")

    async def events(self, task_id: str) -> AsyncGenerator[Event, None]:
        """Progress, sentences as they are known, and in the end the status of the task that has ended. A stream that
        breaks off is begun again, and a sentence is told once."""
        path = f"/events/{quoted(task_id)}"
        told: set[Sentence] = set()
        pauses = retries.Pauses(self._connection.patience)
        while True:
            why: ClientError = Unreachable(
                f"{self.url} ended the events of task {task_id}.", "Ask for its status later."
            )
            try:
                async with self._connection.streamed(path) as chunks:
                    async for name, data in sse.events(chunks):
                        event = tasks.event(name, data)
                        pauses.reset()
                        if isinstance(event, Sentence):
                            if event in told:
                                continue
                            told.add(event)
                        if event is not None:
                            yield event
                        if isinstance(event, TaskStatus):
                            return
            except ClientError as error:
                why = error
            await pauses.after(why)

    async def result(self, task_id: str) -> Document:
        """Raises NotFinished for a task that is unfinished or was cancelled, Expired, and for one that failed the
        error that its recording was answered with."""
        return decoded(await self.download(task_id, "json"), Document)

    async def download(self, task_id: str, format: Format) -> bytes:
        """The transcript as a file of that format, as the server renders it. Raises as `result` does."""
        return await self._connection.call("GET", f"/result/{quoted(task_id)}", query=[("format", format)])

    async def revise(self, task_id: str, changes: Sequence[Change], *, revision: int = 0) -> int:
        """Change a finished transcript, for every format from then on: all changes in their order, or none. The number
        of the new revision. revision: that of the document which was looked at. Raises Conflict where somebody has
        changed it since. Not made again where the connection broke."""
        body = msgspec.json.encode(Revise(revision, tuple(changes)))
        answer = await self._connection.call("PATCH", f"/result/{quoted(task_id)}", data=lambda: body, again=False)
        return decoded(answer, Revised).revision

    async def tasks(
        self,
        *,
        status: str | None = None,
        batch_id: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> TasksPage:
        """A page of tasks, newest first. before: `next` of the page before it."""
        asked = {"status": status, "batch_id": batch_id, "limit": limit, "before": before}
        return await self._connection.ask(TasksPage, "GET", "/tasks", list(fields(asked)))

    async def delete(self, task_id: str) -> TaskStatus:
        """Delete a task that has ended, with all that is kept of it; cancel one that has not."""
        answer = await self._connection.ask(tasks.StatusAnswer, "DELETE", f"/tasks/{quoted(task_id)}")
        return answer.status

    async def stream(self, audio: live.Audio, **options: Unpack[LiveOptions]) -> AsyncGenerator[live.LiveEvent, None]:
        """Words with speakers while the audio comes, up to Done with the document of the whole.

        audio: pieces of samples, cut anywhere, from an iterator of either kind; one that blocks runs in a thread. Among
        them FINALIZE, which has the words so far become final. The end of the audio ends the session.
        """
        query = list(fields(options))
        async with (
            self._connection.websocket("/stream", query) as socket,
            aclosing(live.converse(socket, audio)) as events,
        ):
            async for event in events:
                yield event

    async def batch(
        self,
        recordings: Path | str | Iterable[Path | str],
        output: Path | str,
        *,
        formats: Sequence[Format] = ("json",),
        at_once: int = 4,
        overwrite: bool = False,
        on_progress: Callable[[Path, Progress], object] | None = None,
        **options: Unpack[Options],
    ) -> AsyncGenerator[batch.Item, None]:
        """Transcribe the recordings of a folder (and of the folders in it), or those that are named, into a folder.

        at_once: that are uploaded or worked on at the same time. Recordings whose outputs are there are skipped, unless
        `overwrite`. Begun again after it was killed, it takes up the tasks that were submitted, where recordings and
        options are the same. One that fails is an Item with its error, and stops no other. Raises ValueError where two
        recordings would be written to one file, FileNotFoundError for a folder that is not there.
        """
        if at_once < 1:
            raise ValueError("at_once must be at least 1")
        output = Path(output)
        made = batch.plans(batch.recordings(recordings), output, formats)
        options.setdefault("priority", "low")

        async def submit(recording: Path, key: str) -> Accepted:
            return await self.submit(recording, idempotency_key=key, **options)

        calls = batch.Calls(submit, self.wait, self.download)
        items = batch.run(
            calls, made, output, at_once=at_once, overwrite=overwrite, on_progress=on_progress, options=options
        )
        async with aclosing(items):
            async for item in items:
                yield item

    async def voices(self) -> tuple[StoredVoice, ...]:
        """The voices that the server keeps for this key. Raises NotFound where it keeps none at all ([voices])."""
        return (await self._connection.ask(VoicesPage, "GET", "/voices")).voices

    async def enrol_voice(self, name: str, recordings: Sequence[Recording]) -> StoredVoice:
        """Keep a voice, from recordings in which only this person speaks. Not made again where the connection broke."""
        async with uploads.form([("files", each) for each in recordings], {"name": name}) as form:
            return decoded(await self._connection.call("POST", "/voices", data=form.data, again=False), StoredVoice)

    async def delete_voice(self, voice_id: str) -> StoredVoice:
        return await self._connection.ask(StoredVoice, "DELETE", f"/voices/{quoted(voice_id)}")
