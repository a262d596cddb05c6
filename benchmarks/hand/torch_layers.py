"""Single layers as a user of PyTorch would call them; images are channels_last in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 as everyone calls it
from torch import nn


def _recurrent(kind: type, values: list[np.ndarray], order: list[int]) -> nn.Module:
    """An nn.LSTM, GRU or RNN with Keras's weights, its gates in PyTorch's order."""
    kernel, recurrent, bias = values
    module = kind(kernel.shape[0], recurrent.shape[0], batch_first=True)
    biases = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])

    def gates(x: np.ndarray) -> torch.Tensor:
        parts = np.split(x, len(order), axis=-1)
        return torch.from_numpy(np.concatenate([parts[k] for k in order], axis=-1).T.copy())

    with torch.no_grad():
        module.weight_ih_l0.copy_(gates(kernel))
        module.weight_hh_l0.copy_(gates(recurrent))
        module.bias_ih_l0.copy_(gates(biases[0]))
        module.bias_hh_l0.copy_(gates(biases[1]))
    return module


def _bidirectional(values: list[np.ndarray]) -> nn.Module:
    """An nn.LSTM that reads both ways."""
    ways = [_recurrent(nn.LSTM, values[k : k + 3], [0, 1, 2, 3]) for k in (0, 3)]
    module = nn.LSTM(values[0].shape[0], values[1].shape[0], batch_first=True, bidirectional=True)
    with torch.no_grad():
        for way, suffix in zip(ways, ("", "_reverse"), strict=True):
            for name, parameter in way.named_parameters():
                getattr(module, name + suffix).copy_(parameter)
    return module


def _attention(x: torch.Tensor, y: torch.Tensor, qk, qb, kk, kb, vk, vb, ok, ob) -> torch.Tensor:
    heads, size = qk.shape[1:]
    q, k, v = (
        F.linear(a, w.flatten(1).T, b.flatten()).unflatten(-1, (heads, size)).transpose(1, 2)
        for a, w, b in ((x, qk, qb), (y, kk, kb), (y, vk, vb))
    )
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return F.linear(y, ok.flatten(0, 1).T, ob)


def _local(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    # unfold lays a patch out channel by channel; the kernel has it cell by cell.
    n, c, h, w = x.shape
    patches = F.unfold(x, 3).reshape(n, c, 9, -1).permute(3, 0, 2, 1).reshape(-1, n, 9 * c)
    y = torch.bmm(patches, kernel).permute(1, 2, 0).reshape(n, -1, h - 2, w - 2)
    return y + bias.permute(2, 0, 1)


CALLS: dict[str, Callable[..., torch.Tensor]] = {
    "dense": lambda x, w, b: torch.addmm(b, x, w),
    "embedding": lambda x, e: F.embedding(x, e),
    "conv1d": lambda x, w, b: F.conv1d(F.pad(x, (4, 0)), w, b),
    "conv2d": lambda x, w, b: F.conv2d(x, w, b, padding=1),
    "conv3d": lambda x, w, b: F.conv3d(x, w, b, padding=1),
    "depthwise": lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=x.shape[1]),
    "transposed": lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1),
    "max pooling": lambda x: F.max_pool2d(x, 2),
    "average pooling": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True, count_include_pad=False),
    "global pooling": lambda x: x.mean((2, 3)),
    "upsampling": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "padding": lambda x: F.pad(x, (2, 2, 2, 2)),
    "locally connected": _local,
    "group normalization": lambda x, g, b: F.group_norm(x, 8, g, b, 1e-3),
    "layer normalization": lambda x, g, b: F.layer_norm(x, x.shape[-1:], g, b, 1e-3),
    "softmax": lambda x: torch.softmax(x, -1),
    "dropout": lambda x: F.dropout(x, 0.5, torch.is_grad_enabled()),
    "attention": lambda x, y: F.scaled_dot_product_attention(x, y, y, scale=1.0),
    "multi-head attention": _attention,
    "merge": lambda x, y: x + y,
}
RECURRENT = {"lstm": (nn.LSTM, [0, 1, 2, 3]), "gru": (nn.GRU, [1, 0, 2]), "simple rnn": (nn.RNN, [0])}


class Call:
    """One call, ready to run."""

    def __init__(self, name: str, config: dict[str, Any], inputs: list[np.ndarray], values: list[np.ndarray]):
        self.x = [self._image(torch.from_numpy(x)) for x in inputs]
        self.name, self.moving = name, []
        if name == "bidirectional":
            both = _bidirectional(values)
            self.weights = list(both.parameters())
            self.call = lambda x, *_: both(x)[1][0].transpose(0, 1).flatten(1)
            return
        if name in RECURRENT:
            module = _recurrent(RECURRENT[name][0], values, RECURRENT[name][1])
            self.weights = list(module.parameters())
            self.call = lambda x, *_: module(x)[0][:, -1]
            return
        weights = [torch.from_numpy(v.copy()) for v in values]
        if name in ("conv1d", "conv2d", "conv3d"):
            weights[0] = weights[0].permute(-1, -2, *range(weights[0].ndim - 2))
        if name == "transposed":
            weights[0] = weights[0].permute(3, 2, 0, 1)
        if name == "depthwise":
            weights[0] = weights[0].permute(2, 3, 0, 1)
        if name in ("conv2d", "transposed", "depthwise"):
            weights[0] = weights[0].contiguous(memory_format=torch.channels_last)
        else:
            weights[:1] = [w.contiguous() for w in weights[:1]]
        if name == "batch normalization":
            weights, self.moving = weights[:2], weights[2:]
        self.weights = weights
        self.call = self._normalized if name == "batch normalization" else CALLS[name]

    @staticmethod
    def _image(x: torch.Tensor) -> torch.Tensor:
        """A batch of images or volumes with the channels second, lying as channels_last."""
        return x.permute(0, -1, *range(1, x.ndim - 1)) if x.ndim > 3 or tuple(x.shape[1:]) == (128, 64) else x

    def _normalized(self, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        training = torch.is_grad_enabled()
        return F.batch_norm(x, *self.moving, gamma, beta, training, 0.01, 1e-3)

    def forward(self) -> torch.Tensor:
        return self.call(*self.x, *self.weights)

    def gradients(self) -> tuple[torch.Tensor, ...]:
        leaves = [t.detach().requires_grad_() if t.is_floating_point() else t for t in self.x]
        weights = [w if w.requires_grad else w.requires_grad_() for w in self.weights]
        y = self.call(*leaves, *weights)
        return torch.autograd.grad((y * y).sum(), [t for t in (*leaves, *weights) if t.requires_grad])
