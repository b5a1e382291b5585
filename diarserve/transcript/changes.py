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
    states: list[list[Edit]] = [[]]
    for changes in revisions:
        edits = states[-1]
        for change in changes:
            if isinstance(change, Restore):
                if change.revision >= len(states):
                    raise InvalidRequest(f"There is no revision {change.revision} to restore.", param="changes")
                edits = states[change.revision]
            else:
                edits = [*edits, change]
        states.append(edits)
    return states[-1]
