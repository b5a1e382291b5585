"""What a model must look like for a worker to run it.

A job is a generator. It yields a phase: a list of items of model work that may run in any order and in any
batch. It is resumed with the items' outputs in the order it gave them, and returns the job's result. The
worker decides which items run next, so a short urgent job overtakes a long one between two steps, and one
step may hold items of several jobs. Code in the generator itself is light glue; heavy work belongs in `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workers.messages import Request


@dataclass(frozen=True, slots=True)
class WorkItem:
    key: Hashable  # items with equal keys may share a step
    payload: Any
    partial: bool = False  # its output is worth showing at once
    size: float = 1.0  # that it takes of a batch
    span: tuple[float, float] | None = None  # for progress, where a job has many phases of one key: see Engine.spans


JobSteps = Generator[list[WorkItem], list[Any], Any]


@dataclass(frozen=True, slots=True)
class Interim:
    """What a step may yield: the beginning of an item's output, worth showing before the step is done."""

    index: int  # of the item in the step
    output: Any


Step = Sequence[Any] | Generator[Interim | None, None, Sequence[Any]]


class Engine:
    """What runs a worker's jobs. The constructor takes the spec's options, loads the model and warms it up.

    A step that raises an out-of-memory error of its device (workers.runtime.devices knows them) is done again: first in
    smaller batches, then by `fallback`.
    """

    parallel: int = 1  # steps that may run at the same time, each in a thread of its own
    # For progress: the shares of a job at which a phase begins and ends, by its key, or the first part of its key. A
    # phase that is not listed is the whole job.
    spans: ClassVar[Mapping[str, tuple[float, float]]] = {}

    owns_process: bool = True  # False in a thread of the server, whose limits and signals an engine must leave alone
    save_memory: bool = False  # whether what is kept of a GPU's memory for later is given back when there are no jobs

    def describe(self) -> Mapping[str, Any]:
        """What the model is: at least {"model": name, "device": device}."""
        raise NotImplementedError

    def job(self, request: Request) -> JobSteps:
        raise NotImplementedError

    def batch(self, key: Hashable) -> int:
        """The most items with this key and of size 1 that one step may hold. All are as large as its largest."""
        return 1

    def run(self, items: Sequence[WorkItem]) -> Step:
        """One step: the outputs of items that share a key, in order. A step that takes long is a generator, and may
        be left at every yield: nobody waits for its job any more. Must be safe in `parallel` + 1 threads, since a
        job more urgent than all that run is not kept waiting for a thread."""
        raise NotImplementedError

    def fallback(self, items: Sequence[WorkItem]) -> Step | None:
        """As `run`, for items that do not fit into the device's memory, on something that takes less of it; None
        where there is nothing."""
        return None

    def can_run_beside(self, key: Hashable, running: Sequence[Hashable]) -> bool:
        """Whether a step with this key may begin beside those that run, of which these are the keys."""
        return True

    def can_batch_with(self, item: WorkItem, other: WorkItem) -> bool:
        """Whether items of two jobs, with the same key, are done sooner in one step than in two."""
        return True

    def maintain(self, idle: float) -> Sequence[str]:
        """Called between steps and every few seconds, `idle` seconds after the last job ended (0 while one is
        there): the moment to give memory back. Returns what happened since the last call, to be counted."""
        return ()


def outputs_of(step: Step, wanted: Callable[[], bool] = lambda: True) -> Sequence[Any]:
    """Run a step to its end, or until nobody wants it: then there are no outputs."""
    if not isinstance(step, Generator):
        return step
    try:
        while wanted():
            next(step)
    except StopIteration as stop:
        outputs: Sequence[Any] = stop.value
        return outputs
    step.close()
    return ()


class JobError(Exception):
    """The job cannot be done, and trying again at once will not help: the request or its audio is at fault, or there is
    no room on the disk. The code is stable, for machines; diarserve.core.errors gives each its HTTP status."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
