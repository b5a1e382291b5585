"""Speaker embeddings: CAM++ (Wang et al. 2023, https://arxiv.org/abs/2303.00332) in plain torch.

A 2-D convolutional head, three blocks of densely connected 1-D convolutions whose outputs are masked by the context of
their segment, and statistics pooling. Modules are named as in the checkpoints of 3D-Speaker, so that these load as
they are.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.diarize.embedded.frames import DIMENSION, MELS
from workers.runtime.model_files import load_weights

GROWTH = 32  # channels that each layer of a block adds
BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers and dilation of each


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; the mels are halved where `stride` is 2."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, (stride, 1), 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut.append(nn.Conv2d(channels, channels, 1, (stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(inner + self.shortcut(x))


class Head(nn.Module):
    """Of mel frames (batch, mels, frames), (batch, channels * mels / 8, frames)."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(Residual(channels, 2), Residual(channels, 1))
        self.layer2 = nn.Sequential(Residual(channels, 2), Residual(channels, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, (2, 1), 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, mels: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(mels[:, None])))
        x = functional.relu(self.bn2(self.conv2(self.layer2(self.layer1(x)))))
        return x.flatten(1, 2)


class NormRelu(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.batchnorm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.batchnorm(x))


class Unit(nn.Module):
    """A convolution that halves the frames, batch norm, ReLU."""

    def __init__(self, incoming: int, outgoing: int, kernel: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(incoming, outgoing, kernel, 2, kernel // 2, bias=False)
        self.nonlinear = NormRelu(outgoing)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.nonlinear(self.linear(x))
        return halved


class Transit(nn.Module):
    """Halves the channels after a block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.nonlinear = NormRelu(channels)
        self.linear = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        fewer: Tensor = self.linear(self.nonlinear(x))
        return fewer


class ContextMask(nn.Module):
    """A convolution whose outputs are weighted by their context.

    The paper adds the mean of the whole recording and that of the 2 s around each frame. A piece is shorter than 2 s,
    so that both are its mean.
    """

    def __init__(self, channels: int, outgoing: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(channels, outgoing, 3, 1, dilation, dilation, bias=False)
        self.linear1 = nn.Conv1d(channels, channels // 2, 1)
        self.linear2 = nn.Conv1d(channels // 2, outgoing, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = functional.relu(self.linear1(2 * x.mean(dim=2, keepdim=True)))
        masked: Tensor = self.linear_local(x) * torch.sigmoid(self.linear2(context))
        return masked


class DenseLayer(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = NormRelu(channels)
        self.linear1 = nn.Conv1d(channels, 4 * GROWTH, 1, bias=False)
        self.nonlinear2 = NormRelu(4 * GROWTH)
        self.cam_layer = ContextMask(4 * GROWTH, GROWTH, dilation)

    def forward(self, x: Tensor) -> Tensor:
        added = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))
        return torch.cat([x, added], dim=1)


class Statistics(nn.Module):
    """Mean and standard deviation over the frames."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=2), x.std(dim=2)], dim=1)


class Projection(nn.Module):
    def __init__(self, incoming: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(incoming, DIMENSION, 1, bias=False)
        self.nonlinear = nn.Sequential()
        self.nonlinear.add_module("batchnorm", nn.BatchNorm1d(DIMENSION, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.nonlinear(self.linear(x[..., None])[..., 0])
        return embedding


class CamPlusPlus(nn.Module):
    """Of mel frames (batch, frames, mels), each mel's mean over the piece taken off: embeddings (batch, dimension)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Head()
        channels = 128
        self.xvector = nn.Sequential()
        self.xvector.add_module("tdnn", Unit(32 * MELS // 8, channels, 5))
        for number, (layers, dilation) in enumerate(BLOCKS, 1):
            block = nn.Sequential()
            for layer in range(layers):
                block.add_module(f"tdnnd{layer + 1}", DenseLayer(channels, dilation))
                channels += GROWTH
            self.xvector.add_module(f"block{number}", block)
            self.xvector.add_module(f"transit{number}", Transit(channels))
            channels //= 2
        self.xvector.add_module("out_nonlinear", NormRelu(channels))
        self.xvector.add_module("stats", Statistics())
        self.xvector.add_module("dense", Projection(2 * channels))

    def forward(self, mels: Tensor) -> Tensor:
        embedding: Tensor = self.xvector(self.head(mels.transpose(1, 2)))
        return functional.normalize(embedding, dim=1)


def load_campplus(checkpoint: Path) -> CamPlusPlus:
    network = CamPlusPlus()
    network.load_state_dict(load_weights(checkpoint))
    return network.eval().requires_grad_(False)
