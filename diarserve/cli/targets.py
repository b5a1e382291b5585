"""Where each transcript goes, and what may be written over."""

from __future__ import annotations

import collections
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
import typer

from diarserve.cli.command import STDIN, Source, UsageError
from diarserve.client import batch
from diarserve.client.batch import suffix
from diarserve.core.types import Format

_ONE_A_FILE = ("srt", "vtt", "tsv")  # formats of which several in one stream are none


class Recording(NamedTuple):
    source: Source
    targets: Mapping[Format, Path]  # empty: standard output

    @property
    def name(self) -> str:
        return "stdin" if self.source == STDIN else self.source.name


def formats(text: str) -> list[Format]:
    """Those of a list with commas. Raises typer.BadParameter."""
    known: Mapping[str, Format] = {name: name for name in get_args(Format)}
    named = [part.strip() for part in text.split(",")]
    if unknown := [name for name in named if name not in known]:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(known)}.", param_hint="'--format'")
    return list(dict.fromkeys(known[name] for name in named))


def recordings(
    files: Sequence[Source], output: Path | None, output_dir: Path | None, wanted: Sequence[Format]
) -> list[Recording]:
    """Raises UsageError where two transcripts would go to one place, or no place is right."""
    if files.count(STDIN) > 1:
        raise UsageError("Standard input (-) can be read once.")
    if output is not None and output_dir is not None:
        raise UsageError("-o and --output-dir are two names of one thing.")
    if output_dir is not None:
        if output_dir.exists() and not output_dir.is_dir():
            raise UsageError(f"--output-dir {output_dir} is a file.")
        return _in_folder(files, output_dir, wanted)
    several = len(files) > 1
    if output is None:
        if len(wanted) > 1:
            raise UsageError("Several formats need --output-dir DIRECTORY.")
        if several and wanted[0] in _ONE_A_FILE:
            raise UsageError(f"Several recordings as {wanted[0]} need -o DIRECTORY.")
        return [Recording(file, {}) for file in files]
    if several and output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file; several recordings need a directory.")
    if several or output.is_dir():
        return _in_folder(files, output, wanted)
    if len(wanted) > 1:
        raise UsageError("Several formats need --output-dir DIRECTORY.")
    if not output.parent.is_dir():
        raise UsageError(f"-o {output}: there is no directory {output.parent}.")
    if output in files:
        raise UsageError(f"{output} is a recording and would be written over.")
    return [Recording(files[0], {wanted[0]: output})]


def in_folder(file: Source, folder: Path, wanted: Sequence[Format]) -> Recording:
    stem = "stdin" if file == STDIN else file.stem
    return Recording(file, {format: folder / f"{stem}{suffix(format)}" for format in wanted})


def _in_folder(files: Sequence[Source], folder: Path, wanted: Sequence[Format]) -> list[Recording]:
    made = [in_folder(file, folder, wanted) for file in files]
    counts = collections.Counter(target for each in made for target in each.targets.values())
    for target, count in counts.items():
        if count > 1:
            raise UsageError(f"{count} of these recordings would be written to {target}: name them apart.")
        if target in files:
            raise UsageError(f"{target} is a recording and would be written over.")
    folder.mkdir(parents=True, exist_ok=True)
    return made


def existing(recording: Recording) -> list[Path]:
    return [target for target in recording.targets.values() if target.is_file()]


def without_those_that_exist(
    planned: Sequence[Recording], *, overwrite: bool, skip_existing: bool
) -> Sequence[Recording]:
    """Those whose transcripts may be written. Asks where somebody can answer. Raises UsageError where nobody can."""
    there = [path for each in planned for path in existing(each)]
    if overwrite or not there:
        return planned
    kept = [each for each in planned if not existing(each)]
    if skip_existing:
        return kept
    shown = f"{there[0]} is" if len(there) == 1 else f"{there[0]} and {len(there) - 1} more are"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{shown} there already.", hint="--overwrite writes over it, --skip-existing leaves it.")
    return planned if typer.confirm(f"{shown} there already. Write over?", err=True) else kept


def write(target: Path, content: bytes) -> None:
    """A file as a whole, or not at all; into a pipe or a device as they are. Raises OSError."""
    if target.exists() and not target.is_file():
        target.write_bytes(content)
    else:
        batch.write(target, content)


def readable(body: bytes, format: Format) -> bytes:
    """JSON in lines."""
    return msgspec.json.format(body, indent=2) + b"\n" if format == "json" else body
