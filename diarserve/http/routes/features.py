"""What this server can do as it is configured, for clients that want to know before they ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from diarserve.core.types import PRIORITIES, Format, OpenAIFormat, Priority
from diarserve.http.context import SERVICE
from diarserve.http.openapi.describe import Answer, describe
from diarserve.http.responses import json
from diarserve.service.service import Service
from diarserve.transcript.document import Seconds
from diarserve.transcript.formats import FORMATS

routes = web.RouteTableDef()

INPUTS = ("wav", "flac", "mp3", "m4a", "aac", "ogg", "opus", "webm", "mp4", "mkv", "aiff", "amr")


class Formats(Struct):
    input: Sequence[str]
    output: Sequence[Format]
    openai: Sequence[OpenAIFormat]


class FeatureLimits(Struct):
    max_upload_mib: int
    max_audio_seconds: Seconds
    max_batch_files: int
    max_pending: int
    max_queued: int
    keep_results_hours: float


class Features(Struct, kw_only=True):
    models: Annotated[
        Mapping[str, Mapping[str, Any] | None],
        Meta(description="By lane, what each engine says of itself; null: not loaded yet."),
    ]
    devices: Sequence[str]
    languages: Annotated[Sequence[str] | None, Meta(description="null: whatever the model knows.")]
    diarizers: Sequence[str]
    formats: Formats
    limits: FeatureLimits
    priorities: Sequence[Priority]
    parallel_processing: bool
    features: Annotated[Mapping[str, bool | None], Meta(description="null: not known before the model is loaded.")]


@routes.get("/api/v1/parallel/features")
@describe("What this server can do as it is configured", {200: Answer("All of it.", Features)}, needs="read")
async def features(request: web.Request) -> web.Response:
    return json(features_of(request.app[SERVICE]))


def features_of(service: Service) -> Features:
    models = {lane.name: dict(lane.info) or None for lane in service.lanes}
    whisper = service.lanes.whisper.info
    translates = whisper.get("translates", whisper.get("multilingual"))
    return Features(
        models=models,
        devices=sorted({str(model["device"]) for model in models.values() if model and "device" in model}),
        languages=["en"] if translates is False else None,
        diarizers=list(service.lanes.diarizers),
        formats=Formats(INPUTS, list(FORMATS), get_args(OpenAIFormat)),
        limits=msgspec.convert(service.settings.limits, FeatureLimits, from_attributes=True),
        priorities=PRIORITIES,
        parallel_processing=service.settings.parallel_processing,
        features={
            "speaker_diarization": True,
            "word_timestamps": True,
            "overlapping_speech": True,
            "batch": True,
            "durable_tasks": True,
            "progress_events": True,
            "callbacks": True,
            "translation": translates,
            "source_separation": service.lanes.separate is not None,
            "enhanced_alignment": service.lanes.align is not None,
            "known_speakers": service.lanes.embed is not None,
            "stored_voices": service.settings.voices.enabled,
        },
    )
