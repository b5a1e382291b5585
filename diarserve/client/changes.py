"""What may be changed in a finished transcript. Words are named by their number in the document as it is just before
the change: 0 is the first word of the first segment. `first` up to, not including, `past`."""

from __future__ import annotations

from msgspec import Struct


class Rename(Struct, frozen=True, tag="rename"):
    """A speaker gets a name; with the name of another speaker, the two are one."""

    speaker: str
    name: str


class Assign(Struct, frozen=True, tag="assign"):
    """Another said these words: one of the speakers, or a new one."""

    first: int
    past: int
    speaker: str


class Correct(Struct, frozen=True, tag="correct"):
    """These words are said otherwise. No text: the words go."""

    first: int
    past: int
    text: str


class Restore(Struct, frozen=True, tag="restore"):
    """All is as it was at that revision; 0 is how the models left it."""

    revision: int


Change = Rename | Assign | Correct | Restore


class Revise(Struct):
    revision: int
    changes: tuple[Change, ...]


class Revised(Struct):
    revision: int
