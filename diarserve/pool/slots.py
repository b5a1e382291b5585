"""The places of a lane's workers: as many as the lane has now, and those that are about to leave."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from diarserve.core import errors
from diarserve.pool import memory, scaling
from diarserve.pool.job import Job
from diarserve.pool.scaling import Bounds, Seen
from diarserve.pool.slot import Slot
from workers.messages import WorkerSpec

log = logging.getLogger(__name__)

Make = Callable[..., Slot]  # (spec, number=, info=)
_OF_ONE_WORKER = ("loaded", "memory")  # what an engine says of itself that ends with it


class Transfer(NamedTuple):
    """A job that is to change its worker."""

    job: Job
    giver: Slot
    taker: Slot


class Slots:
    """Iterates over all, in the order of their numbers."""

    def __init__(self, specs: Sequence[WorkerSpec], make: Make, workers: int) -> None:
        """specs: of the workers in turn."""
        self._specs = specs
        self._make = make
        self._known: Mapping[str, Any] = {}  # what an engine said of itself whose worker has left
        self._failed = -math.inf  # when a worker that was to come could not be started, on the monotonic clock
        self._ending: set[asyncio.Task[None]] = set()
        self._slots = [self._new(number) for number in range(workers)]

    def _new(self, number: int) -> Slot:
        return self._make(self._specs[number % len(self._specs)], number=number, info=self._known)

    def __iter__(self) -> Iterator[Slot]:
        return iter(tuple(self._slots))

    @property
    def staying(self) -> list[Slot]:
        return [slot for slot in self._slots if not slot.leaving]

    def start(self) -> None:
        for slot in self._slots:
            slot.start()

    async def close(self) -> None:
        """Kill the workers and wait until they are reaped."""
        await asyncio.gather(*(slot.close() for slot in self._slots), *self._ending)

    def grow(self, workers: int) -> None:
        """To so many: those that were about to leave stay, then new ones start."""
        for slot in [slot for slot in self._slots if slot.leaving][: max(workers - len(self.staying), 0)]:
            slot.leaving = False
        while len(self.staying) < workers:
            self._known = self._lasting_info()
            slot = self._new(next(self._free_numbers()))
            self._slots.append(slot)
            self._slots.sort(key=lambda slot: slot.number)
            slot.start()

    def surplus(self, workers: int) -> list[Slot]:
        """Whom to let go so that so many stay: those with the fewest jobs, and of these the last to have come."""
        staying = sorted(self.staying, key=lambda slot: (len(slot.jobs), slot.ready, -slot.number))
        return staying[: max(len(staying) - workers, 0)]

    def remove(self, slot: Slot) -> None:
        """End its worker. Nothing happens where that was done."""
        if slot in self._slots:
            self._known = self._lasting_info()
            self._slots.remove(slot)
            ending = asyncio.create_task(slot.close())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    @property
    def ready(self) -> bool:
        return any(slot.ready for slot in self._slots)

    @property
    def loaded(self) -> bool:
        """Whether a worker was up once."""
        return self.ready or bool(self._known) or any(slot.info for slot in self._slots)

    @property
    def halted(self) -> str | None:
        """Why none can start."""
        reasons = [slot.halted for slot in self._slots if slot.halted]
        return "; ".join(dict.fromkeys(reasons)) if reasons and len(reasons) == len(self._slots) else None

    @property
    def info(self) -> Mapping[str, Any]:
        """What the models say of themselves; which are loaded, of all workers together."""
        infos = [slot.info for slot in self._slots if slot.info]
        if not infos:
            return self._known
        loaded = {name for info in infos for name in info.get("loaded", ())}
        return {**infos[0], "loaded": sorted(loaded)} if loaded else infos[0]

    def seen(self, queue: Iterable[Job], width: int) -> Seen:
        """What decides how many there are to be, but for the memory that is left."""
        staying, now = self.staying, time.monotonic()
        waiting = [*queue, *(job for slot in self._slots for job in _waiting(slot))]
        return Seen(
            workers=len(staying),
            starting=sum(not (slot.ready or slot.halted) for slot in staying),
            width=width,
            waiting=len(waiting),
            oldest=max((now - job.waits_since for job in waiting), default=0.0),
            idle=[slot.idle(now) for slot in staying if slot.ready and not slot.jobs],
            failed=now - self._failed,
        )

    def room(self, most: int, free: Callable[[str], int | None]) -> int | None:
        """For how many more, `most` at most, there is memory: `free` bytes on each device."""
        numbers = itertools.islice(self._free_numbers(), most)
        devices = [str(self._specs[number % len(self._specs)].options.get("device", "cpu")) for number in numbers]
        return scaling.room(devices, {device: free(device) for device in devices}, memory.taken(self.state()))

    def transfer(self, width: int) -> Transfer | None:
        """The most urgent job of the fullest worker that it has not begun, where another has two jobs less."""
        ready = [slot for slot in self.staying if slot.ready]
        taker, giver = (choose(ready, key=lambda slot: len(slot.jobs), default=None) for choose in (min, max))
        if not (taker and giver) or len(giver.jobs) - len(taker.jobs) < 2:
            return None
        jobs = [job for job in _waiting(giver) if not job.writes and taker.has_room(job, width)]
        return Transfer(min(jobs), giver, taker) if jobs else None

    def give_up_halted(self, bounds: Bounds) -> None:
        """Of a lane whose size may change: those that cannot start, where there are others. It may grow again later."""
        halted = [slot for slot in self.staying if slot.halted]
        if halted and len(halted) < len(self.staying) and bounds.min < bounds.max:
            self._failed = time.monotonic()
            for slot in halted:
                self.remove(slot)

    def state(self) -> list[dict[str, Any]]:
        """What /stats shows of them."""
        return [
            {
                "number": slot.number,
                "pid": slot.pid,
                "jobs": len(slot.jobs),
                "restarts": slot.restarts,
                "leaving": slot.leaving,
                "halted": slot.halted,
                "last_error": slot.last_error,
                "device": slot.info.get("device"),
                "memory": slot.info.get("memory", {}),
            }
            for slot in self._slots
        ]

    def _free_numbers(self) -> Iterator[int]:
        taken = {slot.number for slot in self._slots}
        return (number for number in itertools.count() if number not in taken)

    def _lasting_info(self) -> Mapping[str, Any]:
        return {name: value for name, value in self.info.items() if name not in _OF_ONE_WORKER}


def _waiting(slot: Slot) -> list[Job]:
    """Of the jobs that its worker holds, those that it has not begun. The most urgent may be under way untold."""
    others = [job for job in slot.jobs.values() if not job.live]
    first = min(others, default=None)
    return [job for job in others if not (job.begun or job is first)]


def give(slot: Slot, job: Job) -> None:
    """The job to the slot's worker; it ends where it cannot be sent."""
    try:
        slot.submit(job)
    except UnicodeError:  # a lone surrogate, which JSON and Python's strings can hold
        job.end(errors.InvalidRequest("The request holds text that is not valid Unicode."))
    except OSError as error:  # no room for its target, or no descriptor is left: the caller knows what to do
        log.error("the files of a job of the %s lane cannot be opened: %s", slot.spec.lane, error.strerror)
        job.end(error)
    except Exception:
        log.exception("a job of the %s lane could not be sent", slot.spec.lane)
        job.end(errors.ModelFailed("The request could not be sent to a worker."))
