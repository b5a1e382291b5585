"""How much audio the tasks of one owner may hold in 24 hours. Counted in memory, so a restart begins anew.

A recording counts from its submission: with its length where the upload tells it, and with nothing where only decoding
will; then with its true length once it is transcribed. One that fails counts as nothing, one that is cancelled as it
was submitted. (`limits`, which counts requests, cannot correct what it has counted.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from diarserve.core.errors import RateLimited

DAY = 24 * 3600.0  # seconds


@dataclass(slots=True)
class _Recording:
    at: float
    seconds: float
    settled: bool = False


@dataclass(slots=True)
class _Usage:
    recordings: dict[str, _Recording] = field(default_factory=dict)  # by task, the oldest first
    seconds: float = 0.0


class AudioQuota:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._usage: dict[str, _Usage] = {}  # of owners with a limit
        self._clock = clock

    def used(self, owner: str) -> float:
        """Seconds of audio in the last 24 hours."""
        usage = self._usage.get(owner)
        if usage is None:
            return 0.0
        since = self._clock() - DAY
        while usage.recordings:
            task = next(iter(usage.recordings))
            if usage.recordings[task].at > since:
                return usage.seconds
            usage.seconds -= usage.recordings.pop(task).seconds
        del self._usage[owner]
        return 0.0

    def reserve(self, owner: str, task: str, seconds: float, hours: float) -> None:
        """seconds: of audio; 0 where that is not known. hours: that the owner may have in 24 hours. Raises
        RateLimited."""
        used, limit = self.used(owner), hours * 3600
        if used >= limit or used + seconds > limit:
            message = f"This key may send {hours:.4g} hours of audio in 24 hours; {used / 3600:.4g} are used."
            raise RateLimited(message, retry_after=self._until_room(owner, used + seconds - limit))
        usage = self._usage.setdefault(owner, _Usage())
        usage.recordings[task] = _Recording(self._clock(), seconds)
        usage.seconds += seconds

    def extend(self, owner: str, task: str, seconds: float, hours: float) -> None:
        """What was reserved for a recording that keeps arriving is so long by now. Raises RateLimited where that is
        more than is left; then it stays as it was."""
        usage = self._usage.get(owner)
        if not usage or not (recording := usage.recordings.get(task)):
            return  # it began a day ago
        more = self.used(owner) + seconds - recording.seconds - hours * 3600
        if more > 0:
            message = f"This key may send {hours:.4g} hours of audio in 24 hours, and they are used."
            raise RateLimited(message, retry_after=self._until_room(owner, more))
        usage.seconds += seconds - recording.seconds
        recording.seconds = seconds

    def settle(self, owner: str, task: str, seconds: float) -> None:
        """The task has ended; `seconds` of audio count. Nothing happens where nothing was reserved for it."""
        usage = self._usage.get(owner)
        if usage and (recording := usage.recordings.get(task)):
            usage.seconds += seconds - recording.seconds
            recording.seconds, recording.settled = seconds, True

    def release(self, owner: str, task: str) -> None:
        """What was reserved is not needed: there was no such task. Nothing happens once it is settled."""
        usage = self._usage.get(owner)
        if usage and task in usage.recordings and not usage.recordings[task].settled:
            usage.seconds -= usage.recordings.pop(task).seconds

    def _until_room(self, owner: str, wanted: float) -> float:
        """Seconds until so many seconds of audio are older than a day."""
        now = self._clock()
        for recording in self._usage[owner].recordings.values() if owner in self._usage else ():
            wanted -= recording.seconds
            if wanted <= 0:
                return max(1.0, recording.at + DAY - now)
        return DAY  # the recording is longer than the limit
