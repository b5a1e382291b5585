"""What a model must look like for a worker to run it. Engines of your own can be named in a configuration.

A job is a generator. It yields a phase: a list of work items that may run in any order and in any batch. It is resumed
with the items' outputs, in the order of the items, and returns the job's result. The worker decides which items run
next: a step is one call of `Engine.run` with a batch of them. So a short urgent job overtakes a long one between two
steps, and one step may hold items of several jobs.

A diarizer that gives every loud second to one speaker::

    class Loudness(Engine):
        spans = {"level": (0.0, 1.0)}

        def __init__(self, *, threshold: float = 0.01) -> None:  # `threshold = 0.02` in the lane's section of the TOML
            self.threshold = threshold

        def describe(self) -> Mapping[str, Any]:
            return {"model": "loudness", "device": "cpu", "max_speakers": 1}

        def batch(self, key: Hashable) -> int:
            return 16

        def job(self, request: Request) -> JobSteps:
            assert isinstance(request, Diarize)
            samples = load(request.audio)  # workers.media.samples: (samples,), float32, 16 kHz
            starts = range(0, len(samples), SAMPLE_RATE)
            levels = yield [WorkItem("level", samples[start : start + SAMPLE_RATE]) for start in starts]
            loud = [second for second, level in enumerate(levels) if level > self.threshold]
            return Diarization(tuple(Turn(second, second + 1.0, "SPEAKER_00") for second in loud), "loudness")

        def run(self, items: Sequence[WorkItem]) -> StepOutputs:
            return [float(np.sqrt(np.mean(item.payload**2))) for item in items]
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from workers.messages import JobErrorCode, LiveRequest, Request
from workers.messages.live import LiveEnd, LiveOutput


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A piece of work for the model: what can be done at once, in at most a few seconds."""

    key: Hashable  # items with equal keys may share a step
    payload: Any  # whatever `Engine.run` needs; it never leaves the worker
    partial: bool = False  # its output is sent to the client while the job runs
    size: float = 1.0  # of a batch; `Engine.batch` counts items of size 1
    span: tuple[float, float] | None = None  # of the job, for progress, where many phases have one key: Engine.spans


JobSteps = Generator[list[WorkItem], list[Any], Any]  # yields phases, is sent their outputs, returns the result


@dataclass(frozen=True, slots=True)
class Await:
    """What a live job yields to wait for audio: it is resumed with an Append (workers.messages.live) as soon as there
    are `samples` or more in its file, or it is to flush or to end; at once where that is so. The Append holds all that
    came since the last one that it was given. It holds no thread meanwhile."""

    samples: int = 0  # since the session's start; what the job has seen already is never enough


@dataclass(frozen=True, slots=True)
class Emit:
    """What a live job yields to tell something; it is resumed with None at once."""

    output: LiveOutput


LiveSteps = Generator[list[WorkItem] | Await | Emit, Any, LiveEnd]  # of a job whose audio keeps arriving


@dataclass(frozen=True, slots=True)
class Interim:
    """What a step may yield: the beginning of an item's output, sent to the client before the step is done."""

    index: int  # of the item in the step
    output: Any


# The outputs of a step, one for each item. A generator yields wherever the step may be left, and returns them.
StepOutputs = Sequence[Any] | Generator[Interim | None, None, Sequence[Any]]


class Engine:
    """What runs a worker's jobs. The constructor takes the lane's options as keywords, loads the model and warms it up:
    a worker is ready once it returns. What it raises is the reason that /readyz gives.

    Times are seconds, audio is 16 kHz mono float32 in [-1, 1], shape (samples,).

    Threads: `job`, `live` and their generators, `describe` and `maintain` run one at a time, under the scheduler's
    lock: they must be quick. `run` and `fallback` run in up to `parallel` + 1 threads at once.

    Errors: a JobError, from a job or a step, fails the job with its code. A device's out-of-memory error
    (workers.runtime.devices knows them) makes the step run again, first in smaller batches, then by `fallback`. After
    an error that breaks the CUDA context the worker is replaced and its jobs are tried again. Any other exception fails
    the job, which is tried again; in a shared step each job's items run alone first, so that only the one at fault
    fails.
    """

    parallel: int = 1  # steps that may run at the same time, each in a thread of its own
    # For progress: the shares of a job at which a phase begins and ends, by its key, or by the first part of a key that
    # is a tuple. A phase that is not listed is the whole job.
    spans: ClassVar[Mapping[str, tuple[float, float]]] = {}

    owns_process: bool = True  # False in a thread of the server, whose limits and signals an engine must leave alone
    # Whether its process gives up all but its jobs' files once the engine is made (workers.runtime.jail), as one should
    # that reads hostile files. `jail` is what the kernel then enforces, to be told by `describe`; empty in a thread.
    jailed: ClassVar[bool] = False
    jail: Mapping[str, Any] = MappingProxyType({})
    save_memory: bool = False  # whether a GPU's memory that is kept for later is given back while there are no jobs

    def describe(self) -> Mapping[str, Any]:
        """What the model is: at least {"model": name, "device": device}; diarizers add "max_speakers", the most that
        they tell apart (None: any number). Shown by /readyz and /stats."""
        raise NotImplementedError

    def job(self, request: Request) -> JobSteps:
        """The generator that does the request: only what takes little time, the model's work is for `run`. It is closed
        when the job is cancelled. See workers.messages for requests and their results."""
        raise NotImplementedError

    def live(self, request: LiveRequest) -> LiveSteps:
        """As `job`, of audio that keeps arriving: it also yields Await and Emit. Engines that have it say "live": True
        in `describe`."""
        raise JobError("model_unavailable", "This model does not take live audio.")
        yield

    def batch(self, key: Hashable) -> int:
        """The most items of size 1 with this key that one step may hold. Each is counted as large as the largest."""
        return 1

    def run(self, items: Sequence[WorkItem]) -> StepOutputs:
        """One step: the outputs of items that share a key, in their order. A step of more than a second should be a
        generator: it is left at a yield when all of its jobs are cancelled. Must be safe in `parallel` + 1 threads:
        the one more is for a job that is more urgent than all that run."""
        raise NotImplementedError

    def fallback(self, items: Sequence[WorkItem]) -> StepOutputs | None:
        """As `run`, for an item that alone does not fit into the device's memory, on something that takes less of it,
        such as the CPU; None where there is nothing, and the job fails."""
        return None

    def can_run_beside(self, key: Hashable, running: Sequence[Hashable]) -> bool:
        """Whether a step with this key may begin while steps with those keys run."""
        return True

    def can_batch_with(self, item: WorkItem, other: WorkItem) -> bool:
        """Whether items of two jobs, with the same key, are done sooner in one step than in two."""
        return True

    def maintain(self, idle: float) -> Sequence[str]:
        """Called between steps and every few seconds, `idle` seconds after the last job ended (0 while there is one):
        the moment to free memory. Returns what happened since the last call, to be counted: "load" or "unload" for each
        model."""
        return ()


def outputs_of(
    outputs: StepOutputs,
    wanted: Callable[[], bool] = lambda: True,
    show: Callable[[Interim], None] = lambda interim: None,
) -> Sequence[Any]:
    """Run a step to its end, or until it is not wanted any more: then there are no outputs. `show` is called with each
    Interim that it yields."""
    if not isinstance(outputs, Generator):
        return outputs
    try:
        while wanted():
            if interim := next(outputs):
                show(interim)
    except StopIteration as stop:
        result: Sequence[Any] = stop.value
        return result
    outputs.close()
    return ()


class JobError(Exception):
    """The job cannot be done, and trying again at once will not help: the request or its audio is at fault, or there is
    no room on the disk. The code is stable, for machines; diarserve.core.errors gives each its HTTP status. The message
    is for people, who may be strangers: no paths, no names of classes."""

    def __init__(self, code: JobErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
