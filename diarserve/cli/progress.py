"""Bars on standard error, one a recording, with how far each stage is; only on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

_RUNNING = {
    "decode": "decoding",
    "separate": "separating",
    "transcribe": "words",
    "align": "aligning",
    "diarize": "speakers",
}


class Bars:
    """
    >>> with bars() as shown, shown.bar("call.wav") as bar:
    ...     bar.advance(40.0, {"decode": 100.0, "transcribe": 30.0, "diarize": 60.0})
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def say(self, *lines: str) -> None:
        """Above the bars."""
        for line in lines:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, name: str, total: float | None = 100.0) -> Iterator[Bar]:
        task = self._progress.add_task(name, total=total, stages="")
        try:
            yield Bar(self._progress, task)
        finally:
            self._progress.remove_task(task)


class Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, percent: float, stages: Mapping[str, float]) -> None:
        self._progress.update(self._task, completed=percent, stages=_shown(stages))


def _shown(stages: Mapping[str, float]) -> str:
    """
    >>> _shown({"decode": 100.0, "transcribe": 30.0, "diarize": 60.0})
    'words 30 %, speakers 60 %'
    """
    return ", ".join(f"{_RUNNING.get(name, name)} {share:.0f} %" for name, share in stages.items() if share < 100)


@contextmanager
def bars() -> Iterator[Bars]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[stages]}", style="dim"),
    )
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, disable=not console.is_terminal
    ) as progress:
        yield Bars(progress)
