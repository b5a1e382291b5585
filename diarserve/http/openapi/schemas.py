"""The shapes of what is answered, as JSON schemas. Whoever changes an answer changes it here: tests compare."""

from __future__ import annotations

from typing import Any

from diarserve.core.types import PRIORITIES, STATUSES
from diarserve.http.routes.features import LIMITS

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
BOOLEAN: Schema = {"type": "boolean"}
MOMENT: Schema = {"type": "string", "format": "date-time"}
PERCENT: Schema = {"type": "number", "minimum": 0, "maximum": 100}
ANYTHING: Schema = {"type": "object", "additionalProperties": True}


def enum(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def mapping(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def record(*optional: str, **properties: Schema) -> Schema:
    """An object that has all these properties, the optional ones sometimes."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def event(name: str | None, data: Schema) -> Schema:
    """A server-sent event, as its fields; its data are JSON."""
    fields = {"data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data}}
    return record(**({"event": enum(name)} if name else {}), **fields)


_BATCH_STATUS = enum("queued", "processing", "completed")
_EVENTS = {"progress": "Progress", "segment": "Heard", "done": "Task"}
_STAGES = record(
    "separate", "align", decode=PERCENT, separate=PERCENT, transcribe=PERCENT, align=PERCENT, diarize=PERCENT
)
_USAGE = record(type=enum("duration"), seconds=COUNT)
_SPAN = {"start": NUMBER, "end": NUMBER}

# OpenAI's events
_DELTA = record(type=enum("transcript.text.delta"), delta=STRING)
_DIARIZED = record(type=enum("transcript.text.segment"), id=STRING, **_SPAN, speaker=STRING, text=STRING)
_DONE = record("warnings", type=enum("transcript.text.done"), text=STRING, warnings=array(STRING))

_DOCUMENT = {
    "task_id": STRING,
    "status": enum("completed"),
    "filename": STRING,
    "language": STRING,
    "duration": NUMBER,
    "text": STRING,
    "speakers": array(STRING),
    "segments": array(ref("Segment")),
    "turns": array(ref("Turn")),
    "models": record(whisper=STRING, diarization=STRING, alignment=STRING, source_separation=nullable(STRING)),
    "degraded": BOOLEAN | {"description": "Whether some of it did not fit into the device's memory and ran on less."},
    "performance": ref("Performance"),
    "warnings": array(STRING),
}
_TASK = {
    "task_id": STRING,
    "batch_id": nullable(STRING),
    "filename": STRING,
    "status": enum(*STATUSES),
    "progress": PERCENT,
    "stage": STRING,
    "stages": _STAGES,
    "priority": enum(*PRIORITIES),
    "queue_position": nullable(COUNT),
    "created_at": MOMENT,
    "started_at": nullable(MOMENT),
    "finished_at": nullable(MOMENT),
    "attempts": COUNT,
    "error": nullable(STRING),
    "error_code": nullable(STRING),
}
_ERROR = record(code=STRING, message=STRING, param=nullable(STRING))

SCHEMAS: dict[str, Schema] = {
    "Document": record(**_DOCUMENT),
    "Segment": record(id=COUNT, **_SPAN, speaker=STRING, text=STRING, words=array(ref("Word"))),
    "Word": record(
        word=STRING, **_SPAN, probability=NUMBER, speaker=STRING, speaker_confidence=NUMBER, overlap=BOOLEAN
    ),
    "Turn": record(**_SPAN, speaker=STRING),
    "Performance": record(
        parallel_processing=BOOLEAN,
        processing_time=NUMBER,
        queue_time=NUMBER,
        decode_time=NUMBER,
        separation_time=NUMBER,
        transcription_time=NUMBER,
        forced_alignment_time=NUMBER,
        diarization_time=NUMBER,
        alignment_time=NUMBER,
        real_time_factor=NUMBER,
        speedup_estimate=NUMBER,
    ),
    "Accepted": record(task_id=STRING, status=enum(*STATUSES), status_url=STRING, result_url=STRING, events_url=STRING),
    "AcceptedBatch": record(
        batch_id=STRING, status=_BATCH_STATUS, total_files=COUNT, status_url=STRING, tasks=array(ref("Accepted"))
    ),
    "Task": record(**_TASK),
    "Status": record(status=ref("Task")),
    "Tasks": record(tasks=array(ref("Task")), next=nullable(STRING)),
    "Batch": record(
        batch_id=STRING,
        status=_BATCH_STATUS,
        total_files=COUNT,
        successful=COUNT,
        failed=COUNT,
        expired=COUNT,
        tasks=array(record(**_TASK, result_url=STRING)),
    ),
    "BatchResults": record(
        batch_id=STRING,
        total_files=COUNT,
        successful=COUNT,
        failed=COUNT,
        results=array({"oneOf": [ref("Document"), ref("FailedFile")]}),
        performance=record(
            total_time=NUMBER, estimated_speedup=NUMBER, audio_duration=NUMBER, parallel_processing=BOOLEAN
        ),
    ),
    "FailedFile": record(status=enum("failed"), filename=STRING, http_status=COUNT, error=_ERROR),
    "Error": record(error=_ERROR),
    "Unfinished": record(error=_ERROR, status=ref("Task")),
    "Event": {"oneOf": [event(name, ref(data)) for name, data in _EVENTS.items()]},
    "Progress": record(progress=PERCENT, stage=STRING, stages=_STAGES),
    "Heard": record(**_SPAN, text=STRING, speaker=nullable(STRING)),
    # For operators.
    "Alive": record(status=enum("alive")),
    "Readiness": record(status=enum("ready", "not ready"), lanes=mapping(STRING)),
    "Stats": record(
        total_tasks=COUNT,
        completed_tasks=COUNT,
        failed_tasks=COUNT,
        average_processing_time=NUMBER,
        average_stage_times=record(decode=NUMBER, separate=NUMBER, transcribe=NUMBER, align=NUMBER, diarize=NUMBER),
        active_tasks=array(
            record(
                task_id=STRING,
                status=enum(*STATUSES),
                progress=PERCENT,
                stage=STRING,
                stages=_STAGES,
                created_at=NUMBER,
            )
        ),
        queue=record(queued=COUNT),
        store=record(tasks=record(**dict.fromkeys(STATUSES, COUNT)), ever_completed=COUNT, audio_seconds=NUMBER),
        lanes=mapping(ref("Lane")),
        workers=COUNT,
    ),
    "Lane": record(
        ready=BOOLEAN,
        halted=nullable(STRING),
        queued=COUNT,
        oldest_queued=NUMBER,
        model=ANYTHING,
        workers=array(
            record(
                pid=nullable(COUNT),
                jobs=COUNT,
                restarts=COUNT,
                halted=nullable(STRING),
                last_error=nullable(STRING),
                device=nullable(STRING),
                memory=mapping(COUNT),
            )
        ),
    ),
    "Features": record(
        models=mapping(nullable(ANYTHING)),
        devices=array(STRING),
        languages=nullable(array(STRING)) | {"description": "null: whatever the model knows."},
        formats=record(input=array(STRING), output=array(STRING), openai=array(STRING)),
        limits=record(**dict.fromkeys(LIMITS, NUMBER)),
        priorities=array(enum(*PRIORITIES)),
        parallel_processing=BOOLEAN,
        diarizers=array(STRING),
        features=mapping(nullable(BOOLEAN)) | {"description": "null: where the model can."},
    ),
    # OpenAI's shapes; theirs have no warnings.
    "OpenAITranscription": record("warnings", text=STRING, usage=_USAGE, warnings=array(STRING)),
    "OpenAIVerbose": record(
        "segments",
        "words",
        "warnings",
        task=enum("transcribe", "translate"),
        language=STRING,
        duration=NUMBER,
        text=STRING,
        usage=_USAGE,
        segments=array(
            record(
                id=COUNT,
                seek=COUNT,
                **_SPAN,
                text=STRING,
                tokens=array(COUNT),
                temperature=NUMBER,
                avg_logprob=NUMBER,
                compression_ratio=NUMBER,
                no_speech_prob=NUMBER,
            )
        ),
        words=array(record(word=STRING, **_SPAN)),
        warnings=array(STRING),
    ),
    "OpenAIDiarized": record(
        "warnings",
        task=enum("transcribe"),
        duration=NUMBER,
        text=STRING,
        segments=array(_DIARIZED),
        usage=_USAGE,
        warnings=array(STRING),
    ),
    "OpenAIEvent": event(None, {"oneOf": [_DELTA, _DIARIZED, _DONE, ref("OpenAIError")]}),
    "OpenAIModels": record(
        object=enum("list"),
        data=array(ref("OpenAIModel")),
    ),
    "OpenAIModel": record(id=STRING, object=enum("model"), created=COUNT, owned_by=STRING),
    "OpenAIError": record(
        error=record(
            message=STRING,
            type=enum("server_error", "invalid_request_error"),
            param=nullable(STRING),
            code=nullable(STRING),
        )
    ),
}
