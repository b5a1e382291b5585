"""A client of a diarserve server, for asyncio and without it. It needs aiohttp and msgspec, and no other part of
diarserve. docs/client.md has more examples.

    from diarserve.client import Client

    with Client("http://127.0.0.1:8000") as client:
        document = client.transcribe("call.wav", num_speakers=2)
        for segment in document.segments:
            print(segment.speaker, segment.text)
"""

from diarserve.client.aio import AsyncClient
from diarserve.client.batch import Item
from diarserve.client.changes import Assign, Change, Correct, Rename, Restore
from diarserve.client.document import (
    Document,
    Models,
    Performance,
    Segment,
    SpeakerEmbedding,
    SpeakerMatch,
    Turn,
    VoiceCandidate,
    Word,
)
from diarserve.client.errors import (
    BadRecording,
    Busy,
    ClientError,
    Conflict,
    Expired,
    InvalidRequest,
    NotFinished,
    NotFound,
    ServerError,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from diarserve.client.live import (
    FINALIZE,
    Correction,
    Done,
    Final,
    Finalize,
    Interim,
    Lag,
    LiveEvent,
    Ready,
    SpeechStarted,
    Spoken,
    UtteranceEnd,
)
from diarserve.client.options import Format, LiveOptions, Options, Recording
from diarserve.client.sync import Client
from diarserve.client.tasks import Accepted, Event, Progress, Sentence, TasksPage, TaskStatus
from diarserve.client.voices import StoredVoice, VoiceSample

__all__ = [
    "FINALIZE",
    "Accepted",
    "Assign",
    "AsyncClient",
    "BadRecording",
    "Busy",
    "Change",
    "Client",
    "ClientError",
    "Conflict",
    "Correct",
    "Correction",
    "Document",
    "Done",
    "Event",
    "Expired",
    "Final",
    "Finalize",
    "Format",
    "Interim",
    "InvalidRequest",
    "Item",
    "Lag",
    "LiveEvent",
    "LiveOptions",
    "Models",
    "NotFinished",
    "NotFound",
    "Options",
    "Performance",
    "Progress",
    "Ready",
    "Recording",
    "Rename",
    "Restore",
    "Segment",
    "Sentence",
    "ServerError",
    "SpeakerEmbedding",
    "SpeakerMatch",
    "SpeechStarted",
    "Spoken",
    "StoredVoice",
    "TaskStatus",
    "TasksPage",
    "Turn",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "UtteranceEnd",
    "VoiceCandidate",
    "VoiceSample",
    "Word",
]
