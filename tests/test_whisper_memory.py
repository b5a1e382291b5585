"""The memory of Whisper's worker."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from diarserve.core import configuration
from diarserve.pool.worker_process import WorkerProcess
from tests.support.recordings import decoded, sample
from workers.messages import SAMPLE_RATE, AudioRef, Done, Ready, Submit, Transcribe, WorkerSpec

MB = 1_000_000


@pytest.mark.models
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_recordings_of_ever_new_lengths_do_not_make_it_grow(tmp_path: Path) -> None:
    """oneDNN kept a compiled kernel for every length: 40 MB after as many requests as here."""
    lane = configuration.load().whisper
    talk, path = decoded(sample()), tmp_path / "samples"
    talk[7 * SAMPLE_RATE :].tofile(path)
    worker = await WorkerProcess.start(WorkerSpec("whisper", lane.engine, lane.options(), lane.environment))
    try:
        assert isinstance(await worker.receive(), Ready)
        sizes = []
        for number in range(60):
            audio = AudioRef(str(path), int((2 + 0.1 * number) * SAMPLE_RATE))
            worker.send(Submit(str(number), "task", Transcribe(audio), float(number)))
            while not isinstance(await worker.receive(), Done):
                pass
            sizes.append(psutil.Process(worker.pid).memory_info().rss)
        assert sizes[-1] - sizes[9] < 10 * MB
    finally:
        await worker.close()
