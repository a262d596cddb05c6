"""``model.native``: a LayerHub model as a torch.nn.Module, for whatever else is written for torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from layerhub.errors import BackendError
from layerhub.execution import Program


class NativeLayer(torch.nn.Module):
    """The weights of one layer."""

    def __init__(self, description: str):
        super().__init__()
        self.description = description

    def extra_repr(self) -> str:
        return self.description


class NativeModel(torch.nn.Module):
    """A model whose Parameters and buffers are LayerHub's own variables: to train one is to train the other.

    Each layer is a module within it, by its name, with its weights by theirs: so ``state_dict`` names them. Where they
    are and of which type is for the model to say (``model.to(device=…)``, then ``model.native`` anew); a deep copy of
    the module has weights of its own, which may go anywhere.
    ``train()`` and ``eval()`` choose between training and inference, as everywhere in torch; training also moves the
    moving statistics, and draws other dropout at each call. Penalties of regularizers are the caller's to add.
    """

    def __init__(self, program: Program, handles: Sequence[torch.Tensor], run: Callable[[bool], Callable], step: int):
        super().__init__()
        self._bound = id(self)  # which a copy is not
        self.step, self.run = step, {training: run(training) for training in (False, True)}
        self.dtypes = [getattr(torch, value.dtype) for value in program.plan(False).inputs]
        self.updated = {training: program.plan(training).updated for training in (False, True)}
        # Where each weight is registered, so that what replaces it there (functional_call, say) is what runs.
        self.places: list[tuple[dict[str, Any], str]] = []
        layers: dict[int, NativeLayer] = {}
        for slot, handle in zip(program.plan(False).slots, handles, strict=True):
            if id(slot.layer) not in layers:
                layers[id(slot.layer)] = NativeLayer(repr(slot.layer))
                self.add_module(_free(self, slot.layer.label), layers[id(slot.layer)])
            layer = layers[id(slot.layer)]
            name = _free(layer, slot.spec.name)
            layer.register_parameter(name, handle) if slot.spec.trainable else layer.register_buffer(name, handle)
            self.places.append((layer._parameters if slot.spec.trainable else layer._buffers, name))
        self.eval()

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> NativeModel:
        if self._bound == id(self):
            for name, held in self.state_dict(keep_vars=True).items():
                made = fn(held)
                if made.device != held.device or made.dtype != held.dtype:
                    raise BackendError(
                        f"{name} belongs to a LayerHub model, which keeps it on {held.device} in {held.dtype}: move "
                        f"the model, model.to(device={str(made.device)!r}), and ask for model.native again; or move "
                        "copy.deepcopy(model.native), which has weights of its own"
                    )
        return super()._apply(fn, recurse)

    def forward(self, *inputs: torch.Tensor) -> Any:
        weights = [table[name] for table, name in self.places]
        arrays = [x.to(dtype) for x, dtype in zip(inputs, self.dtypes, strict=True)]
        step = self.step if self.training else 0
        outputs, updates, _, _ = self.run[self.training](weights, arrays, (), step)
        self.step += self.training
        with torch.no_grad():
            for index, value in zip(self.updated[self.training], updates, strict=True):
                weights[index].copy_(value)
        return outputs[0] if len(outputs) == 1 else outputs


def _free(module: torch.nn.Module, wanted: str) -> str:
    """A name that torch accepts and the module has not yet."""
    name = re.sub(r"\W", "_", wanted)
    while hasattr(module, name):
        name += "_"
    return name
