"""What this server can do as it is configured, for clients that want to know before they ask."""

from __future__ import annotations

from typing import Any, get_args

from aiohttp import web

from diarserve.core.types import PRIORITIES, OpenAIFormat
from diarserve.http.context import SERVICE
from diarserve.http.responses import json
from diarserve.service.service import Service
from diarserve.transcript.formats import FORMATS

routes = web.RouteTableDef()

INPUTS = ("wav", "flac", "mp3", "m4a", "aac", "ogg", "opus", "webm", "mp4", "mkv", "aiff", "amr")
LIMITS = ("max_upload_mib", "max_audio_seconds", "max_batch_files", "max_pending", "max_queued", "keep_results_hours")


@routes.get("/api/v1/parallel/features")
async def features(request: web.Request) -> web.Response:
    return json(describe(request.app[SERVICE]))


def describe(service: Service) -> dict[str, Any]:
    models = {lane.name: dict(lane.info) or None for lane in service.lanes}  # None: not loaded yet
    multilingual = service.lanes.whisper.info.get("multilingual")  # None: not known before it is loaded
    translates = None if multilingual is None else bool(multilingual)
    return {
        "models": models,
        "devices": sorted({str(model["device"]) for model in models.values() if model and "device" in model}),
        "languages": ["en"] if translates is False else None,
        "diarizers": list(service.lanes.diarizers),
        "formats": {"input": INPUTS, "output": list(FORMATS), "openai": get_args(OpenAIFormat)},
        "limits": service.settings.limits.model_dump(include=set(LIMITS)),
        "priorities": PRIORITIES,
        "parallel_processing": service.settings.parallel_processing,
        "features": {
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
        },
    }
