"""Losses: one value for each sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from layerhub.kernels import KernelSet
from layerhub.spec.losses import CLIP

kernels = KernelSet()


def clipped(p):
    """hardtanh, and not clamp: nothing flows back from what lies on the bounds."""
    return F.hardtanh(p, CLIP, 1 - CLIP)


@kernels.register("SparseCategoricalCrossentropy", kind="loss")
def sparse_categorical_crossentropy(loss, y_true, y_pred):
    axis = loss.axis % y_pred.ndim
    classes, counts = y_true.long(), loss.counts(None, y_true)
    if counts is not None:
        classes = torch.where(counts, classes, 0)
    seen = torch.log_softmax(y_pred, axis) if loss.from_logits else y_pred
    seen = seen.gather(axis, classes.unsqueeze(axis)).squeeze(axis)
    values = -seen if loss.from_logits else -torch.log(clipped(seen / y_pred.sum(axis)))
    return values if counts is None else torch.where(counts, values, 0.0)


@kernels.register("CategoricalCrossentropy", kind="loss")
def categorical_crossentropy(loss, y_true, y_pred):
    if loss.label_smoothing:
        y_true = y_true * (1 - loss.label_smoothing) + loss.label_smoothing / y_pred.shape[loss.axis]
    if loss.from_logits:
        logs = torch.log_softmax(y_pred, loss.axis)
    else:
        logs = torch.log(clipped(y_pred / y_pred.sum(loss.axis, keepdim=True)))
    return -(y_true * logs).sum(loss.axis)


@kernels.register("CTC", kind="loss")
def ctc(loss, y_true, y_pred):
    logs = torch.log_softmax(y_pred, -1).transpose(0, 1)
    steps = torch.full((len(y_true),), y_pred.shape[1])
    lengths = (y_true != 0).sum(1)
    values = F.ctc_loss(logs, y_true, steps, lengths, reduction="none", zero_infinity=True)
    repeats = ((y_true[:, 1:] == y_true[:, :-1]) & (y_true[:, 1:] != 0)).sum(1)
    return torch.where(lengths + repeats > y_pred.shape[1], torch.inf, values)
