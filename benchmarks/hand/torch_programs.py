"""PyTorch: nn.Module, channels_last memory for images, fused Adam."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Program:
    """A module and its optimizer."""

    def __init__(self, trained: list[np.ndarray], moving: list[np.ndarray]):
        self.module = self.network()
        named = [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]
        moments = [b for name, b in self.module.named_buffers() if "running" in name]
        with torch.no_grad():
            for (name, parameter), value in zip(named, trained, strict=True):
                parameter.copy_(torch.from_numpy(value).permute(_axes(name, value.ndim)))
            for buffer, value in zip(moments, moving, strict=True):
                buffer.copy_(torch.from_numpy(value))
        self.named = named
        self.optimizer = torch.optim.Adam([p for _, p in named], lr=1e-3, eps=1e-7, fused=True)

    def network(self) -> nn.Module:
        raise NotImplementedError

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array)

    def array(self, tensor: torch.Tensor) -> np.ndarray:
        return tensor.numpy()

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        if self.module.training:
            self.module.eval()
        with torch.inference_mode():
            return self.module(x)

    def train(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if not self.module.training:
            self.module.train()
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.module(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def momentum(self) -> list[np.ndarray]:
        kept = ((name, self.optimizer.state[p]["exp_avg"]) for name, p in self.named)
        return [moment.permute(list(np.argsort(_axes(name, moment.ndim)))).numpy() for name, moment in kept]


def _axes(name: str, ndim: int) -> list[int]:
    """The axes of Keras's layout in PyTorch's order: HWIO -> OIHW, input by output -> output by input."""
    if "embedding" in name:
        return [0, 1]
    return [3, 2, 0, 1] if ndim == 4 else list(range(ndim))[::-1]


class Mlp(Program):
    def network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


class Cnn(Program):
    def network(self) -> nn.Module:
        blocks = [
            layer
            for channels, filters in ((3, 32), (32, 64), (64, 128))
            for layer in (
                nn.Conv2d(channels, filters, 3, padding="same", bias=False),
                nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            )
        ]
        network = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
        return network.to(memory_format=torch.channels_last)

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        # NHWC in memory is channels_last: the permuted view is all it takes.
        return torch.from_numpy(array).permute(0, 3, 1, 2) if array.ndim == 4 else torch.from_numpy(array)


class LstmClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10_000, 64)
        self.lstm = nn.LSTM(64, 64, batch_first=True)
        self.dense = nn.Linear(64, 4)
        # PyTorch has two biases, which would move twice as fast as one.
        self.lstm.bias_hh_l0.requires_grad_(False).zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, (h, _) = self.lstm(self.embedding(x))
        return self.dense(h[0])


class Lstm(Program):
    def network(self) -> nn.Module:
        return LstmClassifier()


PROGRAMS = {"mlp": Mlp, "cnn": Cnn, "lstm": Lstm}
