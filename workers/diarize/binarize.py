"""From each speaker's probability per frame to spans of speech, as NVIDIA post-processes Sortformer's output.

Gelly & Gauvain 2015, Medennikov et al. 2020; nemo.collections.asr.parts.utils.vad_utils.ts_vad_post_processing: a span
starts where the probability passes `onset` and lasts until it falls below `offset`; it is padded; then short spans are
dropped and short pauses closed. An offset above the onset makes NeMo's spans flicker every 10 ms, which the padding
mends: the same as an offset equal to the onset, which is how it is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.diarize.turns import Span, closed, runs

Probabilities = npt.NDArray[np.float32]  # (frames, speakers)

INSTANT = 0.001  # seconds: the resolution of turns


@dataclass(frozen=True, slots=True)
class PostProcessing:
    """Thresholds, and seconds."""

    onset: float = 0.5
    offset: float = 0.5
    pad_onset: float = 0.0
    pad_offset: float = 0.0
    min_duration_on: float = 0.0
    min_duration_off: float = 0.0


# What NVIDIA found best on DIHARD 3, the most varied of its sets, in NeMo's
# examples/speaker_tasks/diarization/conf/post_processing: sortformer_diar_4spk-v1_dihard3-dev.yaml
OFFLINE = PostProcessing(0.64, 0.74, 0.06, 0.0, 0.1, 0.15)
# and diar_streaming_sortformer_4spk-v2_dihard3-dev.yaml.
STREAMING = PostProcessing(0.56, 1.0, 0.063, 0.002, 0.007, 0.151)


def spans_of(probability: npt.NDArray[np.float32], frame: float, end: float, how: PostProcessing) -> list[Span]:
    """Spans of one speaker, whose frames last `frame` seconds, within a recording of `end` seconds."""
    spans = []
    for first, past in runs(probability >= min(how.onset, how.offset)):
        above = np.flatnonzero(probability[first:past] >= how.onset)
        if len(above):
            start = (first + int(above[0])) * frame
            spans.append((max(0.0, start - how.pad_onset), min(past * frame + how.pad_offset, end)))
    shortest = max(how.min_duration_on, INSTANT)
    long = [span for span in closed(spans, INSTANT) if span[1] - span[0] >= shortest]
    return closed(long, how.min_duration_off)


def speech_of(
    probabilities: Probabilities, frame: float, end: float, how: PostProcessing, most: int | None = None
) -> list[tuple[float, float, int]]:
    """Spans of all speakers: (start, end, speaker). Of more than `most` speakers, those who speak longest are kept."""
    found = {
        speaker: spans for speaker, column in enumerate(probabilities.T) if (spans := spans_of(column, frame, end, how))
    }
    if most is not None and len(found) > most:
        length = {speaker: sum(stop - start for start, stop in spans) for speaker, spans in found.items()}
        kept = sorted(found, key=lambda speaker: length[speaker], reverse=True)[:most]
        return speech_of(reassigned(probabilities, kept, how), frame, end, how)
    return [(start, stop, speaker) for speaker, spans in found.items() for start, stop in spans]


def reassigned(probabilities: Probabilities, kept: Sequence[int], how: PostProcessing) -> Probabilities:
    """Every span of the other speakers goes to the kept speaker who is most probable during it."""
    result = np.zeros_like(probabilities)
    result[:, kept] = probabilities[:, kept]
    for other in set(range(probabilities.shape[1])) - set(kept):
        for first, past in runs(probabilities[:, other] >= min(how.onset, how.offset)):
            part = slice(first, past)
            best = kept[int(probabilities[part, kept].sum(axis=0).argmax())]
            result[part, best] = np.maximum(result[part, best], probabilities[part, other])
    return result
