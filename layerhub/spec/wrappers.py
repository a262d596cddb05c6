"""Wrappers: layers made of other layers."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from layerhub.spec.axes import Shape
from layerhub.spec.base import serialize
from layerhub.spec.domains import Domain
from layerhub.spec.layer import In, Layer, Out, Weights, layers
from layerhub.spec.masks import MaskRule
from layerhub.spec.merge import Add, Average, Concatenate, Multiply
from layerhub.spec.recurrent import Recurrent


def _accept_recurrent(value: Any, owner: Any) -> Recurrent:
    layer = layers.get(value)
    if not isinstance(layer, Recurrent):
        raise TypeError
    return layer


RecurrentLike = Annotated[
    Any, Domain("a recurrent layer, such as LSTM(8)", _accept_recurrent, encode=serialize, invalid=(3, "dense"))
]


class Flip(Layer):
    """The input in reverse order along ``axis``; along time its mask too."""

    axis: int = 1

    x = In("...")
    y = Out("...")
    mask = MaskRule(
        "passes the mask on, flipped along with time",
        lambda layer, has: has[0],
        lambda layer, xp, inputs, masks: xp.flip(masks[0], axis=1) if layer.axis == 1 else masks[0],
    )

    def define(self, xp, x):
        return xp.flip(x, axis=self.axis)


MERGE = {"concat": Concatenate, "sum": Add, "mul": Multiply, "ave": Average}


class Bidirectional(Layer):
    """A recurrent layer run forward and, with weights of its own, backward; the two merged.

    layer: the forward one; its copy that reads backwards is made from its configuration.
    merge_mode: concat, sum, mul, ave; None returns both.
    backward_layer: instead of the copy. Weights, and states: those of the forward layer first.
    Source: Schuster & Paliwal 1997, doi:10.1109/78.650093.
    """

    layer: RecurrentLike
    merge_mode: Literal["concat", "sum", "mul", "ave"] | None = "concat"
    backward_layer: RecurrentLike | None = None

    x = In("n t d")
    forward = Weights("ahead", "n t d")
    backward = Weights("back", "n t d")

    @cached_property
    def ahead(self) -> Recurrent:
        """The layer that reads forward."""
        return self._part(self.layer)

    @cached_property
    def back(self) -> Recurrent:
        """The layer that reads backwards."""
        return self._part(self.backward_layer or self.layer.replace(go_backwards=not self.layer.go_backwards))

    def _part(self, layer: Recurrent) -> Recurrent:
        return layer.replace(
            return_state=True, zero_output_for_mask=self.layer.return_sequences, dtype=self.compute_dtype
        )

    @property
    def states(self) -> int:  # type: ignore[override]
        return 2 * self.layer.states

    def state_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return self.ahead.state_shapes(*shapes) + self.back.state_shapes(*shapes)

    def compose(self, do, x, forward, backward, initial_state):
        half = self.layer.states
        begin = (None, None) if initial_state is None else (initial_state[:half], initial_state[half:])
        ahead, *ahead_states = do(self.ahead, x, *forward, initial_state=begin[0])
        back, *back_states = do(self.back, x, *backward, initial_state=begin[1])
        if self.layer.return_sequences:
            back = do(Flip(axis=1, dtype=self.compute_dtype), back)
        if self.merge_mode is None:
            outputs: tuple[Any, ...] = (ahead, back)
        else:
            outputs = (do(MERGE[self.merge_mode](dtype=self.compute_dtype), ahead, back),)
        return (*outputs, *ahead_states, *back_states) if self.layer.return_state else outputs
