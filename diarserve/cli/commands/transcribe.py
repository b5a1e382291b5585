from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diarserve.cli.command import ApiKey, AsJson, Config, server_option, sources
from diarserve.core.types import Channels, Diarizer, Priority


def transcribe(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILES", help="Recordings; - is standard input, a URL is fetched by the server."),
    ] = None,
    config: Config = None,
    server: Annotated[
        str | None, server_option("Have this server do it. [default: models of the command's own]")
    ] = None,
    api_key: ApiKey = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Transcribe what comes into this folder too, until Ctrl-C. Needs --output-dir.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A file, or a directory for several recordings: call.wav becomes call.srt there. "
            "[default: standard output]",
        ),
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(help="A directory, which is made where it is not there.")] = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="FORMATS", help="Of json, text, srt, vtt, rttm, ctm, stm, tsv: one, or several with commas."
        ),
    ] = "text",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over transcripts. [default: ask]")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out recordings whose transcripts are there.")
    ] = False,
    as_json: AsJson = False,
    at_once: Annotated[int, typer.Option(min=1, help="Recordings that the server gets at the same time.")] = 4,
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
    known_voices: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A voice that the server keeps; true: all. Several times. Needs --server."),
    ] = None,
    speaker_embeddings: Annotated[
        bool, typer.Option("--speaker-embeddings", help="Add the voice of each speaker as a vector, in JSON.")
    ] = False,
    prompt: Annotated[str | None, typer.Option(help="Text as if it came before: for its style and spelling.")] = None,
    hotwords: Annotated[str | None, typer.Option(help="Words to expect.")] = None,
    beam_size: Annotated[int | None, typer.Option(help="[default: the configured one]")] = None,
    temperature: Annotated[float | None, typer.Option(help="Above 0, words are drawn by chance.")] = None,
    priority: Annotated[Priority | None, typer.Option(help="Among the server's tasks. [default: normal]")] = None,
) -> int:
    """Transcribe recordings: here, or by a server. - is standard input.

    Transcripts go to standard output, or into files: -o, --output-dir. Of several recordings one that fails stops no
    other.
    """
    from diarserve.cli import transcribe
    from diarserve.cli.targets import formats

    wanted = transcribe.Wanted(
        sources(files or []), watch, output, output_dir, formats(format), overwrite, skip_existing, as_json
    )
    options = {
        "language": language,
        "whisper_model": whisper_model,
        "num_speakers": num_speakers,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
        "diarizer": diarizer,
        "channels": channels,
        "source_separation": source_separation,
        "enhanced_alignment": enhanced_alignment,
        "known_voices": known_voices or None,
        "speaker_embeddings": speaker_embeddings,
        "prompt": prompt,
        "hotwords": hotwords,
        "beam_size": beam_size,
        "temperature": temperature,
        "priority": priority,
    }
    where = transcribe.Where(config, server, api_key, at_once)
    return transcribe.run(wanted, where, known_speaker or (), options)
