"""Networks of torch that are a sequence of layers, as models in ONNX's format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

OPSET, IR = 17, 8


class ChannelsLast(nn.Module):
    def forward(self, batch: Tensor) -> Tensor:
        return batch.transpose(1, 2)


class ClassSums(nn.Module):
    """A softmax over classes, each of which has some members: of each member, the probabilities of its classes added.

    ClassSums([(), (0,), (0, 1)], 2)  # (..., 3) to (..., 2)
    """

    members: Tensor

    def __init__(self, classes: Sequence[Sequence[int]], count: int) -> None:
        super().__init__()
        table = [[float(member in some) for member in range(count)] for some in classes]
        self.register_buffer("members", torch.tensor(table), persistent=False)

    def forward(self, batch: Tensor) -> Tensor:
        return batch.softmax(dim=-1) @ self.members


class Layers(nn.Module):
    """A network whose attributes are named as in its checkpoint; `layers` gives them in the order in which they run."""

    def layers(self) -> Sequence[nn.Module]:
        raise NotImplementedError

    def forward(self, batch: Tensor) -> Tensor:
        for layer in self.layers():
            batch = layer(batch)[0] if isinstance(layer, nn.LSTM) else layer(batch)
        return batch


class Graph:
    """An ONNX graph in the making: each method adds nodes behind the last one."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.last = "batch"
        for layer in layers:
            self.layer(layer)

    def add(self, operator: str, *constants: Tensor, **attributes: Any) -> None:
        from onnx import helper, numpy_helper

        names = []
        for constant in constants:
            names.append(f"weight{len(self.weights)}")
            self.weights.append(numpy_helper.from_array(constant.numpy(), names[-1]))
        output = f"node{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self.last, *names], [output], **attributes))
        self.last = output

    def layer(self, layer: nn.Module) -> None:
        match layer:
            case nn.Conv1d():
                assert layer.bias is not None
                self.add("Conv", layer.weight, layer.bias)
            case nn.InstanceNorm1d():
                self.add("InstanceNormalization", layer.weight, layer.bias, epsilon=layer.eps)
            case nn.MaxPool1d():
                self.add("MaxPool", kernel_shape=[layer.kernel_size], strides=[layer.stride])
            case nn.Linear():
                self.add("MatMul", layer.weight.T.contiguous())
                self.add("Add", layer.bias)
            case nn.LSTM():
                self.lstm(layer)
            case nn.LeakyReLU():
                self.add("LeakyRelu", alpha=layer.negative_slope)
            case nn.ReLU():
                self.add("Relu")
            case nn.Sigmoid():
                self.add("Sigmoid")
            case ClassSums():
                self.add("Softmax", axis=-1)
                self.add("MatMul", layer.members)
            case ChannelsLast():
                self.add("Transpose", perm=[0, 2, 1])
            case _:
                raise TypeError(f"no ONNX operator is known for {layer}")

    def lstm(self, lstm: nn.LSTM) -> None:
        self.add("Transpose", perm=[1, 0, 2])  # frames first
        suffixes = ["", "_reverse"][: 1 + lstm.bidirectional]
        direction = "bidirectional" if lstm.bidirectional else "forward"
        for depth in range(lstm.num_layers):
            inputs, recurrent, input_bias, recurrent_bias = (
                torch.stack([gates(getattr(lstm, f"{name}_l{depth}{suffix}")) for suffix in suffixes])
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            biases = torch.cat([input_bias, recurrent_bias], dim=1)
            self.add("LSTM", inputs, recurrent, biases, hidden_size=lstm.hidden_size, direction=direction)
            self.add("Transpose", perm=[0, 2, 1, 3])  # (frames, batch, directions, hidden)
            self.add("Reshape", torch.tensor([0, 0, -1]))
        self.add("Transpose", perm=[1, 0, 2])

    def model(self, shape: Sequence[int]) -> bytes:
        from onnx import TensorProto, helper

        batch = helper.make_tensor_value_info("batch", TensorProto.FLOAT, ["items", *shape])
        outputs = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "layers", [batch], [outputs], self.weights)
        opset = helper.make_opsetid("", OPSET)
        serialized: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=IR).SerializeToString()
        return serialized


def gates(weights: Tensor) -> Tensor:
    """From torch's order of the gates (input, forget, cell, output) to that of ONNX (input, output, forget, cell)."""
    return torch.cat([weights.chunk(4)[index] for index in (0, 3, 1, 2)])
