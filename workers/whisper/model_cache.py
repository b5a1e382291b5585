"""Models that stay in memory, within a budget: the least recently used one is unloaded to make room for another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Lock
from typing import Generic, Protocol, TypeVar

from workers.runtime.devices import out_of_memory, trim

log = logging.getLogger(__name__)


class Model(Protocol):
    def unload(self) -> None:
        """Free the weights, even if the object is still referred to."""


M = TypeVar("M", bound=Model)


@dataclass(slots=True)
class _Entry(Generic[M]):
    size: int
    model: M | None = None  # None: it is being loaded
    users: int = 0  # steps that use it now
    used: float = 0.0  # when a step last ended that used it


class ModelCache(Generic[M]):
    """Safe in several threads. A model in use is never unloaded, and none is loaded twice."""

    def __init__(
        self,
        load: Callable[[str], M],
        measure: Callable[[str], int],
        *,
        budget: int | None = None,  # bytes
        count: int | None = None,
        keep: float | None = None,  # seconds after its last use
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._measure, self._clock = load, measure, clock
        self._budget, self._count, self._keep = budget, count, keep
        self._sizes: dict[str, int] = {}
        self._entries: dict[str, _Entry[M]] = {}  # the least recently used first
        self._events: list[str] = []
        self._changed = Condition()
        self._loading = Lock()

    @contextmanager
    def use(self, name: str) -> Iterator[M]:
        """The model, loaded if need be; waits until the models in use leave room for it. Raises what loading raises,
        and MemoryError for a model that is larger than the budget."""
        if name not in self._sizes:
            self._sizes[name] = self._measure(name)
        if not self.fits({name}):
            raise MemoryError(f"{name} needs {self._sizes[name] >> 20} MiB, more than the budget")
        entry = self._enter(name)
        try:
            yield entry.model or self._fill(name, entry)
        finally:
            self._leave(name, entry)

    def fits(self, names: Collection[str]) -> bool:
        """Whether these models may be in memory at once. One that was never measured counts as small."""
        size = sum(self._sizes.get(name, 0) for name in names)
        return (self._budget is None or size <= self._budget) and (self._count is None or len(names) <= self._count)

    def maintain(self) -> list[str]:
        """Unload the models that were not used for `keep` seconds. Returns every "load" and "unload" since the last
        call."""
        with self._changed:
            if self._keep is not None:
                since = self._clock() - self._keep
                for name in [name for name in self._idle() if self._entries[name].used <= since]:
                    self._unload(name)
            events, self._events = self._events, []
            return events

    def loaded(self) -> dict[str, int]:
        """The models in memory, with their estimated sizes in bytes."""
        with self._changed:
            return {name: entry.size for name, entry in self._entries.items() if entry.model is not None}

    def _enter(self, name: str) -> _Entry[M]:
        with self._changed:
            self._changed.wait_for(lambda: self.fits({name} | self._busy()))
            entry = self._entries.pop(name, None) or _Entry(self._sizes[name])
            self._entries[name] = entry  # last: the most recently used
            entry.users += 1
            for other in self._idle():
                if self.fits(self._entries):
                    break
                self._unload(other)
            return entry

    def _fill(self, name: str, entry: _Entry[M]) -> M:
        with self._loading:
            if entry.model is None:
                try:
                    entry.model = self._load(name)
                except Exception as error:
                    if not out_of_memory(error) or not self._clear():
                        raise
                    entry.model = self._load(name)  # sizes are estimates: now that there is more room
                with self._changed:
                    self._events.append("load")
                trim()  # converting weights takes twice their memory for a moment
                log.info("loaded %s", name)
            return entry.model

    def _leave(self, name: str, entry: _Entry[M]) -> None:
        with self._changed:
            entry.users -= 1
            entry.used = self._clock()
            if entry.model is None and not entry.users:
                del self._entries[name]
            self._changed.notify_all()

    def _busy(self) -> set[str]:
        return {name for name, entry in self._entries.items() if entry.users}

    def _idle(self) -> list[str]:
        return [name for name, entry in self._entries.items() if not entry.users]

    def _clear(self) -> bool:
        """Unload every model that is not in use; whether there was one."""
        with self._changed:
            idle = self._idle()
            for name in idle:
                self._unload(name)
            return bool(idle)

    def _unload(self, name: str) -> None:
        model = self._entries.pop(name).model
        assert model is not None  # an entry without users is loaded, or is deleted by `_leave`
        model.unload()
        del model
        trim()
        self._events.append("unload")
        log.info("unloaded %s", name)
