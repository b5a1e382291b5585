"""What every diarizer ends with: turns from masks of speech, and the answer to the request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from workers.messages import Diarization, Diarize, SpeakerActivity, Turn

Mask = npt.NDArray[np.bool_]
Span = tuple[float, float]  # start and end, in seconds

PAUSE = 0.1  # seconds: shorter pauses do not end a turn
SHORTEST_TURN = 0.1  # seconds: shorter ones are dropped


def runs(mask: Mask) -> list[tuple[int, int]]:
    """Where a mask is true: first and past-the-last index of every run."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def closed(spans: Iterable[Span], pause: float) -> list[Span]:
    """Spans in order of time, without the pauses that are shorter."""
    kept: list[Span] = []
    for start, end in spans:
        if kept and start - kept[-1][1] < pause:
            start, before = kept.pop()
            end = max(end, before)
        kept.append((start, end))
    return kept


def speaker_name(number: int) -> str:
    return f"SPEAKER_{number:02d}"


def speaker_number(name: str) -> int:
    return int(name.removeprefix("SPEAKER_"))


def named(spans: Iterable[tuple[float, float, int]]) -> tuple[list[Turn], list[int]]:
    """Turns of (start, end, speaker): sorted, in milliseconds, the speakers named by first appearance; and the speakers
    in the order of their names."""
    names: dict[int, str] = {}
    turns = []
    for start, end, speaker in sorted(spans):
        name = names.setdefault(speaker, speaker_name(len(names)))
        turns.append(Turn(round(start, 3), round(end, 3), name))
    return turns, list(names)


def turns_of(speech: Mask, edge: float, frame: float, duration: float) -> tuple[list[Turn], list[int]]:
    """Turns of speech (speakers, frames), whose frames of `frame` seconds follow each other from `edge` on, and the
    speakers in the order of their names.

    Every speaker keeps a turn, however short.
    """
    spans: list[tuple[float, float, int]] = []
    for speaker, mask in enumerate(speech):
        times = (
            (edge + first * frame if first else 0.0, min(edge + past * frame, duration)) for first, past in runs(mask)
        )
        own = closed(times, PAUSE)
        longest = max(own, key=lambda span: span[1] - span[0], default=None)
        spans += [(*span, speaker) for span in own if span is longest or span[1] - span[0] >= SHORTEST_TURN]
    return named(spans)


def activity_of(
    levels: npt.NDArray[np.float32], start: float, step: float, calibration: tuple[float, float]
) -> SpeakerActivity:
    """levels (speakers, frames), from 0 to 1, in the order of the speakers' names. calibration: bias and slope."""
    whole = np.rint(levels.clip(0, 1) * 255).astype(np.uint8)
    return SpeakerActivity(start, step, tuple(map(speaker_name, range(len(levels)))), whole.tobytes(), *calibration)


def finish(turns: Sequence[Turn], request: Diarize, model: str, activity: SpeakerActivity | None = None) -> Diarization:
    found = len({turn.speaker for turn in turns})
    least = request.num_speakers or request.min_speakers or 0
    warnings: tuple[str, ...] = ()
    if found < least:
        warnings = (f"{least} speakers were asked for, but there is only enough speech to tell {found} apart",)
    return Diarization(tuple(turns), model, warnings, activity)
