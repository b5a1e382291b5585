"""TitaNet speaker embeddings with random weights, as .nemo files.

The architecture is that of NeMo's examples/speaker_tasks/recognition/conf/titanet-large.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Size:
    filters: int
    last: int  # filters of the last block
    repeat: int
    dimension: int  # of an embedding
    attention: int
    speakers: int  # it was trained on


TINY = Size(filters=16, last=48, repeat=1, dimension=16, attention=8, speakers=10)
REAL = Size(filters=1024, last=3072, repeat=3, dimension=192, attention=128, speakers=16_681)


def titanet(folder: Path, size: Size = TINY, seed: int = 0) -> Path:
    """The file of a new model, whose embeddings point in all directions as those of a trained one."""
    import torch
    from nemo.collections.asr.models import EncDecSpeakerLabelModel
    from omegaconf import OmegaConf

    with torch.random.fork_rng(devices=()), torch.inference_mode():
        torch.manual_seed(seed)
        model = EncDecSpeakerLabelModel(OmegaConf.create(configuration(size)))
        norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = None  # the statistics are those of all that was heard: this one batch
        signal = torch.randn(16, 16_000)
        signal = torch.cumsum(signal, dim=1) * torch.linspace(0, 0.02, 16)[:, None] + 0.05 * signal
        model.train()(input_signal=signal, input_signal_length=torch.full((16,), 16_000))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    path = folder / "titanet.nemo"
    model.eval().save_to(str(path))
    return path


def configuration(size: Size) -> dict[str, Any]:
    def block(filters: int, kernel: int, repeat: int = 1, residual: bool = False) -> dict[str, Any]:
        return {
            "filters": filters,
            "repeat": repeat,
            "kernel": [kernel],
            "stride": [1],
            "dilation": [1],
            "dropout": 0.0,
            "residual": residual,
            "separable": True,
            "se": True,
            "se_context_size": -1,
        }

    return {
        "sample_rate": 16_000,
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "normalize": "per_feature",
            "window_size": 0.025,
            "sample_rate": 16_000,
            "window_stride": 0.01,
            "window": "hann",
            "features": 80,
            "n_fft": 512,
            "frame_splicing": 1,
            "dither": 1e-5,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConvASREncoder",
            "feat_in": 80,
            "activation": "relu",
            "conv_mask": True,
            "jasper": [
                block(size.filters, 3),
                block(size.filters, 7, size.repeat, residual=True),
                block(size.filters, 11, size.repeat, residual=True),
                block(size.filters, 15, size.repeat, residual=True),
                block(size.last, 1),
            ],
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.SpeakerDecoder",
            "feat_in": size.last,
            "num_classes": size.speakers,
            "pool_mode": "attention",
            "emb_sizes": size.dimension,
            "attention_channels": size.attention,
        },
        "loss": {"_target_": "nemo.collections.asr.losses.angularloss.AngularSoftmaxLoss", "scale": 30, "margin": 0.2},
        "optim": {"name": "sgd", "lr": 0.08},
    }
