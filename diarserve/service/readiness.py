"""Which lanes must be up for which requests.

Every recording passes through [decode], [whisper] and a diarizer. [separate], [align], [embed] and, of several
diarizers, the single one are needed only by requests that ask for them: if such a lane is halted, only those fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diarserve.core.errors import LaneUnavailable, NotReady
from diarserve.core.options import Options
from diarserve.core.types import Diarizer
from diarserve.pool.lane import Lane
from diarserve.pool.lanes import Lanes


@dataclass(frozen=True, slots=True)
class Readiness:
    lanes: Lanes
    default: Diarizer  # where a request names none

    @property
    def ready(self) -> bool:
        """Whether a request that asks for nothing special would begin at once, or once a lane that has given up its
        workers for want of jobs has one again: only a request wakes it."""
        diarizers = self._diarizers()
        return (
            self.lanes.decode.available
            and self.lanes.whisper.available
            and any(lane.available for lane in diarizers)
            and all(lane.available or lane.halted for lane in diarizers)
        )

    def require(self) -> None:
        """Raises NotReady until the lanes that every recording needs were up once, and where one cannot be."""
        for lane in self._needed():
            if lane.halted or not lane.loaded:
                raise NotReady(f"The {lane.name} worker is not ready; see /readyz.", retry_after=5)

    async def wait(self) -> None:
        """Wait for the lanes that every recording needs. Raises NotReady with the reason if one never will be up."""
        for lane in (self.lanes.decode, self.lanes.whisper, *self._diarizers()):
            await lane.wait_ready()
        for lane in self._needed():
            if lane.halted:
                raise NotReady(f"The {lane.name} worker cannot start: {lane.halted}")

    def require_for(self, options: Options) -> None:
        """Raises LaneUnavailable where the options ask for a lane that is halted. One that still starts is waited for
        in its queue."""
        asked = [
            self.lanes.separate if options.source_separation else None,
            self.lanes.align if options.enhanced_alignment else None,
            self.lanes.diarizers.get(options.diarizer or ""),
            self.lanes.embed if options.compares_voices else None,
        ]
        for lane in asked:
            if lane and lane.halted:
                raise LaneUnavailable(f"The {lane.name} worker, which this request needs, cannot start; see /readyz.")

    def _needed(self) -> Iterator[Lane]:
        yield self.lanes.decode
        yield self.lanes.whisper
        diarizers = self._diarizers()
        yield from [lane for lane in diarizers if not lane.halted] or diarizers

    def _diarizers(self) -> list[Lane]:
        """Those that a request may go to that names none."""
        if self.default == "auto":
            return list(self.lanes.diarizers.values())
        return [self.lanes.diarizers[self.default]]
