"""Which of the configured diarizers a recording goes to."""

from __future__ import annotations

import math
from collections.abc import Mapping

from diarserve.core.errors import InvalidRequest
from diarserve.core.options import Options
from diarserve.core.types import Diarizer
from diarserve.pool.lane import Lane


def choose(options: Options, default: Diarizer, lanes: Mapping[str, Lane], seconds: float) -> Lane:
    """The diarizer that was asked for. `auto` is Sortformer while it can tell as many speakers apart as are expected,
    and the recording is within its limit; else clustering; else whatever there is, of those that are not halted.
    Raises InvalidRequest."""
    require(options, lanes)
    wanted = options.diarizer or default
    if wanted != "auto":
        return lanes[wanted]
    lanes = {name: lane for name, lane in lanes.items() if not lane.halted} or lanes
    expected = options.num_speakers or max(options.min_speakers or 1, 1)
    for name in ("sortformer", "clustering", "embedded"):
        if name in lanes:
            limits = lanes[name].info
            most, longest = limits.get("max_speakers") or math.inf, limits.get("max_seconds") or math.inf
            if expected <= most and seconds <= longest:
                return lanes[name]
    return next(iter(lanes.values()))


def require(options: Options, lanes: Mapping[str, Lane]) -> None:
    """Raises InvalidRequest where a diarizer is asked for that is not configured."""
    if options.diarizer not in (None, "auto", *lanes):
        there = ", ".join(["auto", *lanes])
        message = f"The diarizer {options.diarizer!r} is not configured here; there is: {there}."
        raise InvalidRequest(message, code="diarizer_unavailable", param="diarizer")
