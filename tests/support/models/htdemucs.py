"""HTDemucs with random weights, in the files that a trained one comes in."""

from __future__ import annotations

from pathlib import Path

import torch

SOURCES = ("drums", "bass", "other", "vocals")


def htdemucs(
    folder: Path, *, channels: int = 8, layers: int = 1, hidden: int = 16, segment: float = 1.0, seed: int = 0
) -> Path:
    """A bag of one model, `htdemucs.yaml`, beside its checkpoint. The trained one's size is channels=48, layers=5,
    hidden=512, segment=7.8."""
    from demucs.htdemucs import HTDemucs
    from demucs.states import save_with_checksum, serialize_model
    from omegaconf import OmegaConf

    torch.manual_seed(seed)
    model = HTDemucs(
        list(SOURCES), channels=channels, bottom_channels=hidden, t_layers=layers, t_heads=8, segment=segment
    )
    folder.mkdir(parents=True, exist_ok=True)
    package = serialize_model(model, OmegaConf.create({}), half=True)  # type: ignore[no-untyped-call]
    save_with_checksum(package, folder / "955717e8.th")  # type: ignore[no-untyped-call]
    bag = folder / "htdemucs.yaml"
    bag.write_text("models: ['955717e8']\n")
    return bag
