"""What a Containerfile says, as far as ours goes: stages, their instructions, and variables put in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_WORDS = "FROM|ARG|ENV|RUN|COPY|LABEL|USER|WORKDIR|VOLUME|EXPOSE|HEALTHCHECK|ENTRYPOINT|CMD"
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Instruction:
    word: str  # RUN, COPY, ...
    text: str  # what follows, continued lines joined


@dataclass
class Stage:
    name: str
    base: str  # an image, or an earlier stage
    instructions: list[Instruction] = field(default_factory=list)


def stages(file: Path, arguments: Mapping[str, str]) -> dict[str, Stage]:
    """By name. arguments: --build-arg, put into FROM."""
    known: dict[str, str] = {}
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for each in instructions(file.read_text()):
        if each.word == "FROM":
            base, _, name = substituted(each.text, known).partition(" AS ")
            current = found[name] = Stage(name, base)
        elif current:
            current.instructions.append(each)
        else:
            name, _, default = each.text.partition("=")
            known[name] = arguments.get(name, substituted(default, known))
    return found


def instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    for each in re.split(rf"\n(?=(?:{_WORDS}) )", joined):
        word, _, rest = each.partition(" ")
        yield Instruction(word, rest.strip())


def substituted(text: str, variables: Mapping[str, str]) -> str:
    """
    >>> substituted("${NAME}-$TAG", {"NAME": "python"})
    'python-'
    """
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), text)


def pairs(text: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Of ENV and LABEL.

    >>> pairs('A=1 B="two words"', {})
    {'A': '1', 'B': 'two words'}
    """
    return dict(part.partition("=")[::2] for part in shlex.split(substituted(text, variables)))
