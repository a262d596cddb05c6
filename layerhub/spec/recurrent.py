"""Recurrent layers: one cell, applied along time.

Under a mask, a step that does not count leaves the states as they are; its output is the previous output (zeros before
the first step that counts), or 0 with zero_output_for_mask. go_backwards reads time from its end, and gives outputs in
the order in which they were made.
"""

from __future__ import annotations

from typing import Any, Literal

from layerhub.spec.activations import ActivationLike
from layerhub.spec.axes import Shape
from layerhub.spec.base import axis, keyword
from layerhub.spec.constraints import ConstraintLike
from layerhub.spec.domains import Rate, Size
from layerhub.spec.initializers import Bits, Initializer, InitializerLike, Ones
from layerhub.spec.layer import In, Layer, Out, Result, Weight
from layerhub.spec.masks import MaskRule
from layerhub.spec.regularizers import RegularizerLike


class ForgetBias(Initializer):
    """The bias of an LSTM: ones for the forget gate, so that it remembers at first; ``rest`` for the other gates.

    Source: Jozefowicz et al., An empirical exploration of recurrent network architectures, ICML 2015.
    """

    rest: InitializerLike = "zeros"

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        gate = (shape[0] // 4,)
        starts = (self.rest, Ones(), self.rest, self.rest)
        return xp.concat([start.define(xp, gate, bits) for start in starts], axis=0)


def _mask_of_outputs(layer: Any, xp: Any, inputs: tuple, masks: tuple) -> Any:
    return xp.flip(masks[0], axis=1) if layer.go_backwards else masks[0]


class Recurrent(Layer, abstract=True):
    """A layer that carries states along time."""

    zero_output_for_mask: bool = keyword(default=False, kw_only=True)

    x = In("n t d")
    y = Out("n *steps units")
    mask = MaskRule(
        "passes the mask on, in the order of the outputs, when it returns sequences",
        lambda layer, has: layer.return_sequences and has[0],
        _mask_of_outputs,
    )

    @axis
    def steps(self, t):
        return (t,) if self.return_sequences else ()

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (*super().output_shapes(*shapes), *(self.state_shapes(*shapes) if self.return_state else ()))

    def state_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return ((shapes[0][0], self.units),) * self.states

    def run(self, xp: Any, cell: Any, steps: Any, start: tuple[Any, ...], mask: Any) -> Result:
        """Apply ``cell(step, states) -> states``, whose first state is the output, along the first axis of ``steps``.

        start: the first states. mask: (batch, time) or None, already in the order of the steps.
        """
        if mask is None:

            def step(states, now):
                states = cell(now[0], states)
                return states, states[0] if self.return_sequences else None

            states, outputs = xp.scan(step, start, (steps,))
            last = states[0]
        else:
            silent = xp.zeros_like(start[0])

            def step(carry, now):
                before, states = carry[0], carry[1:]
                moved, counts = cell(now[0], states), now[1]
                output = xp.where(counts, moved[0], silent if self.zero_output_for_mask else before)
                states = tuple(xp.where(counts, new, old) for new, old in zip(moved, states, strict=True))
                return (output, *states), output if self.return_sequences else None

            counts = xp.expand_dims(xp.permute_dims(mask, (1, 0)), axis=-1)
            (last, *states), outputs = xp.scan(step, (silent, *start), (steps, counts))
        y = xp.permute_dims(outputs, (1, 0, 2)) if self.return_sequences else last
        return Result(y, states=tuple(states))


class LSTM(Recurrent):
    """Long short-term memory.

        i, f, g, o = split(x[t] @ kernel + h @ recurrent_kernel + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)

    sigmoid stands for recurrent_activation, tanh for activation. Gates lie i f g o along the last axis of every weight.
    States: h, c.
    dropout, recurrent_dropout: shares of the inputs and of h that are dropped (not kept); drawn once for all steps.
    implementation: 2 drops the same inputs for all gates; 1 (and any recurrent_dropout) draws anew for each gate.
    unroll and use_cudnn are hints to backends and change nothing that is computed.
    Elsewhere: PyTorch stores [4 * units, d] and two biases.
    Source: Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; Gers et al. 2000 for the forget gate.
    """

    states = 2
    keras_only = {"stateful": False}

    units: Size
    activation: ActivationLike = "tanh"
    recurrent_activation: ActivationLike = "sigmoid"
    use_bias: bool = True
    kernel_initializer: InitializerLike = "glorot_uniform"
    recurrent_initializer: InitializerLike = "orthogonal"
    bias_initializer: InitializerLike = "zeros"
    unit_forget_bias: bool = True
    kernel_regularizer: RegularizerLike | None = None
    recurrent_regularizer: RegularizerLike | None = None
    bias_regularizer: RegularizerLike | None = None
    activity_regularizer: RegularizerLike | None = None
    kernel_constraint: ConstraintLike | None = None
    recurrent_constraint: ConstraintLike | None = None
    bias_constraint: ConstraintLike | None = None
    dropout: Rate = 0.0
    recurrent_dropout: Rate = 0.0
    seed: int | None = None
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    unroll: bool = False
    use_cudnn: Literal["auto"] | bool = "auto"
    implementation: Literal[1, 2] = keyword(default=2, kw_only=True)

    kernel = Weight("d 4*units")
    recurrent_kernel = Weight("units 4*units", role="recurrent")
    bias = Weight("4*units", init="bias_start")

    @property
    def bias_start(self) -> Initializer:
        return ForgetBias(self.bias_initializer) if self.unit_forget_bias else self.bias_initializer

    def define(self, xp, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
        u, batch = self.units, xp.size(x, 0)
        if self.go_backwards:
            x = xp.flip(x, axis=1)
            mask = None if mask is None else xp.flip(mask, axis=1)
        if initial_state is None:
            zeros = xp.zeros((batch, u), dtype=x.dtype)
            initial_state = (zeros, zeros)
        drops = self.drops(xp, x, training, rng)
        gates = self._gates(xp, x, kernel, drops[0])
        if bias is not None:
            gates = gates + bias

        def cell(now, states):
            h, c = states
            z = now + self._gates(xp, h, recurrent_kernel, drops[1])
            i = self.recurrent_activation(xp, z[:, :u])
            f = self.recurrent_activation(xp, z[:, u : 2 * u])
            g = self.activation(xp, z[:, 2 * u : 3 * u])
            o = self.recurrent_activation(xp, z[:, 3 * u :])
            c = f * c + i * g
            return o * self.activation(xp, c), c

        return self.run(xp, cell, xp.permute_dims(gates, (1, 0, 2)), tuple(initial_state), mask)

    def drops(self, xp: Any, x: Any, training: bool, rng: Any) -> tuple[list | None, list | None]:
        """What to multiply x and h with: one factor for all gates, or one for each; None where nothing is dropped."""
        count = 4 if self.implementation == 1 or self.recurrent_dropout else 1
        factors: list[Any] = []
        for part, (rate, size) in enumerate(((self.dropout, x.shape[-1]), (self.recurrent_dropout, self.units))):
            if not training or rate == 0:
                factors.append(None)
                continue
            draws = []
            for gate in range(count):
                bits = xp.random_bits(rng.child(part * 4 + gate), (xp.size(x, 0), size))
                kept = xp.astype(bits >= round(rate * 2**32), x.dtype)
                draws.append(kept / (1 - rate) if rate < 1 else kept * 0)
            factors.append(draws)
        return tuple(factors)

    def _gates(self, xp: Any, x: Any, kernel: Any, drop: list | None) -> Any:
        """x @ kernel, with each gate seeing x through its own dropped inputs."""
        if drop is None:
            return xp.matmul(x, kernel)
        wide = [xp.expand_dims(factor, axis=1) if x.ndim == 3 else factor for factor in drop]
        if len(wide) == 1:
            return xp.matmul(x * wide[0], kernel)
        u = self.units
        return xp.concat([xp.matmul(x * f, kernel[:, k * u : (k + 1) * u]) for k, f in enumerate(wide)], axis=-1)
