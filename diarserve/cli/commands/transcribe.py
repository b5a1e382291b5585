from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diarserve.cli.command import Config, recordings
from diarserve.core.types import Channels, Diarizer, Format


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILES", callback=recordings)],
    config: Config = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A file, or a directory for several recordings: call.wav becomes call.srt there. "
            "[default: standard output]",
        ),
    ] = None,
    format: Format = "text",
    language: Annotated[
        str | None, typer.Option(help="Of the recordings, as a code such as en. [default: detected]")
    ] = None,
    whisper_model: Annotated[str | None, typer.Option(help="[default: the configured one]")] = None,
    num_speakers: Annotated[int | None, typer.Option(help="How many people speak, if it is known.")] = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    diarizer: Annotated[Diarizer | None, typer.Option(help="[default: chosen among the configured ones]")] = None,
    channels: Annotated[Channels | None, typer.Option(help="separate: one speaker in each. [default: mix]")] = None,
    source_separation: Annotated[
        bool, typer.Option("--source-separation", help="Free the voices of music and noise first.")
    ] = False,
    enhanced_alignment: Annotated[
        bool, typer.Option("--enhanced-alignment", help="Align words by forced alignment, where it is configured.")
    ] = False,
    known_speaker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="What a speaker is called, and a recording with 2 to 10 s of the voice. Up to four.",
        ),
    ] = None,
    speaker_embeddings: Annotated[
        bool, typer.Option("--speaker-embeddings", help="Add the voice of each speaker as a vector, in JSON.")
    ] = False,
    prompt: Annotated[str | None, typer.Option(help="Text as if it came before: for its style and spelling.")] = None,
    hotwords: Annotated[str | None, typer.Option(help="Words to expect.")] = None,
    beam_size: Annotated[int | None, typer.Option(help="[default: the configured one]")] = None,
    temperature: Annotated[float | None, typer.Option(help="Above 0, words are drawn by chance.")] = None,
) -> int:
    """Transcribe recordings without a server. - is standard input."""
    from diarserve.cli import transcribe

    return transcribe.run(
        config,
        files,
        output,
        format,
        known_speaker or (),
        language=language,
        whisper_model=whisper_model,
        num_speakers=num_speakers,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        diarizer=diarizer,
        channels=channels,
        source_separation=source_separation,
        enhanced_alignment=enhanced_alignment,
        speaker_embeddings=speaker_embeddings,
        prompt=prompt,
        hotwords=hotwords,
        beam_size=beam_size,
        temperature=temperature,
    )
