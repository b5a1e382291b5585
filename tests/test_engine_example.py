"""The example of an engine in workers/engine.py is one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np

from tests.support.drive import drive
from workers import engine, messages
from workers.media.samples import load
from workers.messages import SAMPLE_RATE, AudioRef, Diarization, Diarize, Turn


def test_the_example_of_an_engine_works(tmp_path: Path) -> None:
    assert engine.__doc__ is not None
    _, example = engine.__doc__.split("::\n", 1)
    names: dict[str, Any] = {**vars(engine), **vars(messages), "np": np, "load": load}
    names |= {"Any": Any, "Hashable": Hashable, "Mapping": Mapping, "Sequence": Sequence}
    exec(dedent(example), names)
    samples = np.concatenate([np.zeros(SAMPLE_RATE), np.full(SAMPLE_RATE, 0.5)]).astype(np.float32)
    samples.tofile(tmp_path / "audio.f32")
    result = drive(names["Loudness"](threshold=0.1), Diarize(AudioRef(str(tmp_path / "audio.f32"), samples.size)))
    assert result == Diarization((Turn(1, 2.0, "SPEAKER_00"),), "loudness")
