"""What a client may change in a finished transcript.

Words are named by their number in the document as it is just before the change: 0 is the first word of the first
segment. `first` up to, not including, `past`, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from diarserve.core.errors import InvalidRequest

WordNumber = Annotated[int, Meta(ge=0, le=10_000_000)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]


class Rename(Struct, frozen=True, tag="rename"):
    """A speaker gets a name. With the name of another speaker, the two are one from then on."""

    speaker: Name
    name: Name


class Assign(Struct, frozen=True, tag="assign"):
    """Another said these words: one of the speakers, or a new one."""

    first: WordNumber
    past: WordNumber
    speaker: Name


class Correct(Struct, frozen=True, tag="correct"):
    """These words are said otherwise. Words that stay keep their times; others share the time of those they replace. No
    text: the words go."""

    first: WordNumber
    past: WordNumber
    text: Annotated[str, Meta(max_length=20_000)]


class Restore(Struct, frozen=True, tag="restore"):
    """All is as it was at that revision; 0 is how the models left it."""

    revision: Annotated[int, Meta(ge=0)]


Edit = Rename | Assign | Correct
Change = Edit | Restore


def effective(revisions: Sequence[Sequence[Change]]) -> list[Edit]:
    """What is to be done to the models' document, oldest first. Raises InvalidRequest for a revision that is not there.

    >>> effective([[Rename("A", "Ann")], [Rename("B", "Bob")], [Restore(1)]])
    [Rename(speaker='A', name='Ann')]
    """
    for number, changes in enumerate(revisions):
        for change in changes:
            if isinstance(change, Restore) and change.revision > number:
                raise InvalidRequest(f"There is no revision {change.revision} to restore.", param="changes")
    runs: list[list[Edit]] = []  # newest first
    number = len(revisions)
    while number:
        run: list[Edit] = []
        number, changes = number - 1, revisions[number - 1]
        for change in changes:
            if isinstance(change, Restore):  # what was before it does not count
                number, run = change.revision, []
            else:
                run.append(change)
        runs.append(run)
    return [edit for run in reversed(runs) for edit in run]
