"""Recurrent layers: one cell, applied along time.

A *cell* is one step: (input, states) -> (output, states). LSTM, GRU and SimpleRNN are their cells carried along time;
``RNN`` carries any cell, and ``StackedRNNCells`` makes one cell of several.

Under a mask, a step that does not count leaves the states as they are; its output is the previous output (zeros before
the first step that counts), or 0 with zero_output_for_mask. go_backwards reads time from its end, and gives outputs in
the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from layerhub.spec.activations import ActivationLike
from layerhub.spec.axes import Pattern, Shape
from layerhub.spec.base import axis, keyword, rule, serialize
from layerhub.spec.constraints import ConstraintLike
from layerhub.spec.convolution import Conv, Conv1D, Conv2D, Conv3D
from layerhub.spec.domains import DataFormat, Domain, Rate, Size, Window
from layerhub.spec.initializers import Bits, Initializer, InitializerLike, Ones
from layerhub.spec.layer import In, Layer, Out, Result, Weight, Weights, WeightSpec, layers
from layerhub.spec.masks import MaskRule, absorbs, sizes
from layerhub.spec.regularizers import RegularizerLike
from layerhub.spec.spellings import CONVOLUTION, RECURRENT
from layerhub.spec.windows import Windowed

States = tuple[Any, ...]


class ForgetBias(Initializer):
    """The bias of an LSTM: ones for the forget gate, so that it remembers at first; ``rest`` for the other gates.

    Source: Jozefowicz et al., An empirical exploration of recurrent network architectures, ICML 2015.
    """

    rest: InitializerLike = "zeros"

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        gate = (shape[0] // 4,)
        starts = (self.rest, Ones(), self.rest, self.rest)
        return xp.concat([start.define(xp, gate, bits) for start in starts], axis=0)


class Bound(NamedTuple):
    """A cell with its weights, ready to run.

    ahead: what of a step needs its input alone, (..., d) -> (..., any): it is done for all steps at a time.
    step: (what ``ahead`` gave for this step, states) -> (output, states).
    """

    ahead: Callable[[Any], Any]
    step: Callable[[Any, States], tuple[Any, States]]


# Cells


class Cell(Layer, abstract=True):
    """One step of a recurrent layer, and a layer of its own: ``cell(x, states) -> [output, *states]``.

    A cell of one's own declares ``x``, its weights, ``y``, how many ``states`` it has and, where they are not of the
    output's shape, ``state_shapes``; ``define(self, xp, x, …, initial_state)`` returns Result(output, states=…).
    """

    states: ClassVar[int] = 1
    return_state: ClassVar[bool] = True
    mask = absorbs

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (*super().output_shapes(*shapes), *self.state_shapes(*shapes))

    def state_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        output = super().output_shapes(*shapes)[0]
        return (output,) * self.states

    def bound(self, xp: Any, step: tuple[Any, ...], weights: Sequence[Any], training: bool, rng: Any) -> Bound:
        """The cell with its weights. step: the sizes of one step of the input, batch first."""
        given = {"training": training, "mask": None, "rng": rng}

        def run(now: Any, states: States) -> tuple[Any, States]:
            extras = [states if name == "initial_state" else given[name] for name in self.extras]
            found = self.define(xp, now, *weights, *extras)
            return found.outputs, tuple(found.states)

        return Bound(lambda x: x, run)


def _accept_cell(value: Any, owner: Any) -> Cell:
    if isinstance(value, (list, tuple)):
        return StackedRNNCells(value)
    cell = layers.get(value)
    if not isinstance(cell, Cell):
        raise TypeError
    return cell


def _accept_cells(value: Any, owner: Any) -> tuple[Cell, ...]:
    found = tuple(_accept_cell(cell, owner) for cell in value)
    if not found:
        raise ValueError
    return found


def _config(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": name, "config": config}


CELLS = (
    [_config("LSTMCell", units=3)],
    [_config("GRUCell", units=2), _config("LSTMCell", units=4, use_bias=False)],
    [_config("LSTMCell", units=2), _config("SimpleRNNCell", units=3), _config("GRUCell", units=2, reset_after=False)],
    [_config("GRUCell", units=2, dropout=0.3), _config("LSTMCell", units=3, recurrent_dropout=0.4)],
)
"""Some cells, one upon the other."""
CellLike = Annotated[
    Any,
    Domain(
        "a cell, such as LSTMCell(8), or a list of them",
        _accept_cell,
        encode=serialize,
        valid=(
            *(_config(name, units=3) for name in ("LSTMCell", "GRUCell", "SimpleRNNCell")),
            *(_config("StackedRNNCells", cells=cells) for cells in CELLS[1:]),
        ),
        invalid=(3, "dense"),
    ),
]
Cells = Annotated[
    Any,
    Domain(
        "a list of cells",
        _accept_cells,
        encode=lambda cells: [serialize(c) for c in cells],
        valid=CELLS,
        invalid=(3, [], "ab"),
    ),
]


class StackedWeights(Weights):
    """The weights of several cells, as one argument."""

    def __init__(self) -> None:
        super().__init__("cells")

    def count(self, layer: Layer) -> int:
        return sum(declared.count(cell) for cell in layer.cells for declared in cell.held)

    def owner(self, layer: Layer, name: str) -> tuple[Layer, str] | None:
        number, _, rest = name.partition("/")
        return (layer.cells[int(number)], rest) if rest else None

    def specs(self, layer: Layer, sizes: Any) -> tuple[WeightSpec | None, ...]:
        found: list[WeightSpec | None] = []
        for k, (cell, x) in enumerate(zip(layer.cells, layer.chain(sizes["shapes"][0]), strict=False)):
            for argument in cell.weight_arguments(x):
                found += [None if spec is None else spec._replace(name=f"{k}/{spec.name}") for spec in argument]
        return tuple(found)


class StackedRNNCells(Cell):
    """Several cells as one: the output of each is the input of the next. States: those of the first cell first."""

    cells: Cells

    x = In("n ...")
    inner = StackedWeights()
    y = Out("n ...")

    @property
    def states(self) -> int:  # type: ignore[override]
        return sum(cell.states for cell in self.cells)

    def chain(self, x: Shape) -> list[Shape]:
        """The shapes of the input and of every cell's output."""
        found = [tuple(x)]
        for cell in self.cells:
            found.append(cell.output_shapes(found[-1])[0])
        return found

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (self.chain(shapes[0])[-1], *self.state_shapes(*shapes))

    def state_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        into = self.chain(shapes[0])
        return tuple(state for cell, x in zip(self.cells, into, strict=False) for state in cell.state_shapes(x))

    def define(self, xp, x, inner, training, initial_state, rng):
        return run_cell(self, xp, x, inner, training, initial_state, rng)

    def bound(self, xp: Any, step: tuple[Any, ...], weights: Sequence[Any], training: bool, rng: Any) -> Bound:
        parts, left, known = [], list(weights), tuple(s if isinstance(s, int) else None for s in step)
        for k, (cell, shape) in enumerate(zip(self.cells, self.chain(known), strict=False)):
            count = sum(declared.count(cell) for declared in cell.held)
            own, left = left[:count], left[count:]
            stream = None if rng is None else rng.child(k)
            parts.append(cell.bound(xp, (step[0], *shape[1:]), own, training, stream))

        def run(now: Any, states: States) -> tuple[Any, States]:
            after: list[Any] = []
            for k, (part, cell) in enumerate(zip(parts, self.cells, strict=True)):
                own, states = states[: cell.states], states[cell.states :]
                now, moved = part.step(now if k == 0 else part.ahead(now), own)
                after += moved
            return now, tuple(after)

        return Bound(parts[0].ahead, run)


def run_cell(cell: Cell, xp: Any, x: Any, weights: Sequence[Any], training: bool, states: Any, rng: Any) -> Result:
    """A cell by itself: one step."""
    if states is None:
        states = zero_states(cell, xp, x, x.shape)
    ahead, step = cell.bound(xp, sizes(xp, x), weights, training, rng)
    output, states = step(ahead(x), tuple(states))
    return Result(output, states=states)


def zero_states(layer: Any, xp: Any, x: Any, shape: Sequence[Any]) -> States:
    """States of zeros for an input ``x`` whose shape is known as ``shape``."""
    known = tuple(s if isinstance(s, int) else None for s in shape)
    return tuple(xp.zeros((xp.size(x, 0), *rest), dtype=x.dtype) for _, *rest in layer.state_shapes(known))


# What happens in a step


class Gated(Layer, abstract=True):
    """What SimpleRNN, GRU and LSTM, and their cells, share: gates, each a map of the input plus one of the state.

    dropout, recurrent_dropout: shares of the inputs and of h that are dropped (not kept); drawn once for all steps.
    implementation: 2 drops the same inputs for all gates; 1 (and any recurrent_dropout) draws anew for each gate.
    """

    gates: ClassVar[int] = 1

    activation: ActivationLike = "tanh"
    use_bias: bool = True
    kernel_initializer: InitializerLike = "glorot_uniform"
    recurrent_initializer: InitializerLike = "orthogonal"
    bias_initializer: InitializerLike = "zeros"
    kernel_regularizer: RegularizerLike | None = None
    recurrent_regularizer: RegularizerLike | None = None
    bias_regularizer: RegularizerLike | None = None
    kernel_constraint: ConstraintLike | None = None
    recurrent_constraint: ConstraintLike | None = None
    bias_constraint: ConstraintLike | None = None
    dropout: Rate = 0.0
    recurrent_dropout: Rate = 0.0
    seed: int | None = None
    implementation: Literal[1, 2] = keyword(default=2, kw_only=True)

    @property
    def size(self) -> int:
        """How many units there are."""
        raise NotImplementedError

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """One number for each gate of each unit."""
        return (self.gates * self.size,)

    @property
    def bias_start(self) -> Initializer:
        """How the bias starts."""
        return self.bias_initializer

    def gated(self, xp: Any, now: Any, states: States, product: Callable[[Any, int, int], Any], bias: Any) -> States:
        """One step. now: the gates' parts from the input, bias included.

        product: (array of the state's shape, first gate, last gate) -> its part of these gates. bias: what is left of
        the bias for the state's part. Returns the new states, the output first.
        """
        raise NotImplementedError

    def of_input(self, xp: Any, x: Any, kernel: Any) -> Any:
        """The input's part of gates: x @ kernel."""
        return xp.matmul(x, kernel)

    def of_state(self, xp: Any, h: Any, kernel: Any) -> Any:
        """The state's part of gates: h @ kernel."""
        return xp.matmul(h, kernel)

    def biases(self, bias: Any) -> tuple[Any, Any]:
        """The bias that goes with the input's part, and what goes with the state's."""
        return bias, None

    def bound(self, xp: Any, step: tuple[Any, ...], weights: Sequence[Any], training: bool, rng: Any) -> Bound:
        """The cell with its weights; see ``Cell.bound``."""
        kernel, recurrent_kernel, bias = weights
        size, drop_x, drop_h = self.size, None, None
        if training and (self.dropout or self.recurrent_dropout):
            known = self.state_shapes(tuple(s if isinstance(s, int) else None for s in self.whole(step)))[0]
            drop_x, drop_h = self.factors(xp, kernel.dtype, (step, (step[0], *known[1:])), rng)
        first, second = (None, None) if bias is None else self.biases(bias)

        def part(function: Callable, x: Any, weight: Any, factors: Any, begin: int, end: int) -> Any:
            if factors is None or len(factors) == 1:
                x = x if factors is None else x * factors[0]
                whole = (begin, end) == (0, self.gates)
                return function(xp, x, weight if whole else weight[..., begin * size : end * size])
            columns = [weight[..., k * size : (k + 1) * size] for k in range(begin, end)]
            pieces = [function(xp, x * factors[k], w) for k, w in zip(range(begin, end), columns, strict=True)]
            return pieces[0] if len(pieces) == 1 else xp.concat(pieces, axis=-1)

        def ahead(x: Any) -> Any:
            gates = part(self.of_input, x, kernel, drop_x, 0, self.gates)
            return gates if first is None else gates + first

        def run(now: Any, states: States) -> tuple[Any, States]:
            def product(h: Any, begin: int, end: int) -> Any:
                return part(self.of_state, h, recurrent_kernel, drop_h, begin, end)

            states = self.gated(xp, now, states, product, second)
            return states[0], states

        return Bound(ahead, run)

    def whole(self, step: tuple[Any, ...]) -> tuple[Any, ...]:
        """The shape of an input of this layer whose steps have these sizes."""
        return step

    def drops(self, xp: Any, x: Any, training: bool, rng: Any) -> tuple[list | None, list | None]:
        """What to multiply x and h of each step with; see ``factors``. x: (n, t, d)."""
        if not training:
            return None, None
        batch = xp.size(x, 0)
        return self.factors(xp, x.dtype, ((batch, x.shape[-1]), (batch, self.units)), rng)

    def factors(self, xp: Any, dtype: Any, shapes: tuple, rng: Any) -> tuple[list | None, list | None]:
        """What to multiply x and h with: one factor for all gates, or one for each; None where nothing is dropped."""
        count = self.gates if self.implementation == 1 or self.recurrent_dropout else 1
        found: list[list | None] = []
        for which, (rate, shape) in enumerate(zip((self.dropout, self.recurrent_dropout), shapes, strict=True)):
            if rate == 0:
                found.append(None)
                continue
            draws = []
            for gate in range(count):
                kept = xp.astype(xp.random_bits(rng.child(which * 4 + gate), shape) >= round(rate * 2**32), dtype)
                draws.append(kept / (1 - rate) if rate < 1 else kept * 0)
            found.append(draws)
        return found[0], found[1]


class Elman(Gated, abstract=True):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias). State: h."""

    states = 1

    def gated(self, xp: Any, now: Any, states: States, product: Callable, bias: Any) -> States:
        return (self.activation(xp, now + product(states[0], 0, 1)),)


class GatedUnits(Gated, abstract=True):
    """Gated recurrent units.

        z, r = sigmoid(split(x @ kernel + h @ recurrent_kernel + bias, the first 2 of 3))
        g = tanh(x @ kernel_g + r * (h @ recurrent_kernel_g + bias_1g) + bias_0g)       with reset_after
        g = tanh(x @ kernel_g + (r * h) @ recurrent_kernel_g + bias_g)                  without
        h = z * h + (1 - z) * g

    sigmoid stands for recurrent_activation, tanh for activation. Gates lie z r g along the last axis of every weight;
    with reset_after the bias has two rows, the second for the state's part. State: h.
    Elsewhere: PyTorch has them in the order r z g, and reset_after alone.
    """

    gates = 3
    states = 1
    behind = {"recurrent_activation": "activation", "reset_after": "recurrent_dropout"}

    recurrent_activation: ActivationLike = "sigmoid"
    reset_after: bool = True

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.size) if self.reset_after else (3 * self.size,)

    def biases(self, bias: Any) -> tuple[Any, Any]:
        return (bias[0, ...], bias[1, ...]) if self.reset_after else (bias, None)

    def gated(self, xp: Any, now: Any, states: States, product: Callable, bias: Any) -> States:
        (h,), u = states, self.size
        if self.reset_after:
            inner = product(h, 0, 3)
            inner = inner if bias is None else inner + bias
            both = self.recurrent_activation(xp, now[..., : 2 * u] + inner[..., : 2 * u])
            z, r = both[..., :u], both[..., u:]
            g = self.activation(xp, now[..., 2 * u :] + r * inner[..., 2 * u :])
        else:
            both = self.recurrent_activation(xp, now[..., : 2 * u] + product(h, 0, 2))
            z, r = both[..., :u], both[..., u:]
            g = self.activation(xp, now[..., 2 * u :] + product(r * h, 2, 3))
        return (z * h + (1 - z) * g,)


class LongShortTerm(Gated, abstract=True):
    """Long short-term memory.

        i, f, g, o = split(x @ kernel + h @ recurrent_kernel + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)

    sigmoid stands for recurrent_activation, tanh for activation. Gates lie i f g o along the last axis of every weight.
    States: h, c.
    """

    gates = 4
    states = 2
    behind = {"recurrent_activation": "activation", "unit_forget_bias": "bias_initializer"}

    recurrent_activation: ActivationLike = "sigmoid"
    unit_forget_bias: bool = True

    @property
    def bias_start(self) -> Initializer:
        return ForgetBias(self.bias_initializer) if self.unit_forget_bias else self.bias_initializer

    def gated(self, xp: Any, now: Any, states: States, product: Callable, bias: Any) -> States:
        (h, c), u = states, self.size
        z = now + product(h, 0, 4)
        i = self.recurrent_activation(xp, z[..., :u])
        f = self.recurrent_activation(xp, z[..., u : 2 * u])
        g = self.activation(xp, z[..., 2 * u : 3 * u])
        o = self.recurrent_activation(xp, z[..., 3 * u :])
        c = f * c + i * g
        return o * self.activation(xp, c), c


class UnitGated(Gated, abstract=True):
    """Gates that are maps of all features.

    units: the size of the state.
    """

    behind = {"units": None}
    formerly = RECURRENT

    units: Size

    kernel = Weight("d gates*units")
    recurrent_kernel = Weight("units gates*units", role="recurrent")
    bias = Weight("*bias_shape", init="bias_start")

    @property
    def size(self) -> int:
        return self.units


class GatedCell(UnitGated, Cell, abstract=True):
    """One step of a gated layer."""

    x = In("n d")
    y = Out("n units")

    def define(self, xp, x, kernel, recurrent_kernel, bias, training, initial_state, rng):
        return run_cell(self, xp, x, (kernel, recurrent_kernel, bias), training, initial_state, rng)


class SimpleRNNCell(GatedCell, Elman):
    """One step of SimpleRNN: h = activation(x @ kernel + h @ recurrent_kernel + bias)."""


class GRUCell(GatedCell, GatedUnits):
    """One step of GRU."""


class LSTMCell(GatedCell, LongShortTerm):
    """One step of LSTM."""


# Layers: cells along time


def _mask_of_outputs(layer: Any, xp: Any, inputs: tuple, masks: tuple) -> Any:
    return xp.flip(masks[0], axis=1) if layer.go_backwards else masks[0]


class Recurrent(Layer, abstract=True):
    """A layer that carries states along time.

    stateful: the states after one batch are the first ones of the next; the batch size must be known.
    unroll is a hint to backends and changes nothing that is computed.
    """

    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = keyword(default=False, kw_only=True)

    x = In("n t d")
    y = Out("n *steps units")
    mask = MaskRule(
        "passes the mask on, in the order of the outputs, when it returns sequences",
        lambda layer, has: layer.return_sequences and has[0],
        _mask_of_outputs,
    )

    def shape_of_first(self, input_dim: int | None, input_length: int | None) -> Shape | None:
        return None if input_dim is None else (None, input_length, input_dim)

    @axis
    def steps(self, t):
        return (t,) if self.return_sequences else ()

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (*super().output_shapes(*shapes), *(self.state_shapes(*shapes) if self.return_state else ()))

    def state_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return ((shapes[0][0], self.units),) * self.states

    def whole(self, step: tuple[Any, ...]) -> tuple[Any, ...]:
        return (step[0], None, *step[1:])

    def along(
        self, xp: Any, x: Any, cell: Any, weights: Any, training: Any, mask: Any, initial_state: Any, rng: Any
    ) -> Result:
        """The outputs and last states of ``cell``, bound to ``weights``, along the time of x."""
        if self.go_backwards:
            x = xp.flip(x, axis=1)
            mask = None if mask is None else xp.flip(mask, axis=1)
        start = zero_states(self, xp, x, x.shape) if initial_state is None else tuple(initial_state)
        ahead, step = cell.bound(xp, (xp.size(x, 0), *x.shape[2:]), weights, training, rng)
        steps = ahead(xp.permute_dims(x, (1, 0, *range(2, x.ndim))))
        shape = self.output_shapes(tuple(s if isinstance(s, int) else None for s in x.shape))[0]
        size = shape[1 + self.return_sequences :]
        silent = xp.zeros((xp.size(x, 0), *size), dtype=x.dtype)
        outputs, last, states = self._run(xp, step, steps, start, mask, silent)
        y = xp.permute_dims(outputs, (1, 0, *range(2, outputs.ndim))) if self.return_sequences else last
        return Result(y, states=states)

    def _run(
        self, xp: Any, step: Callable, steps: Any, start: States, mask: Any, silent: Any
    ) -> tuple[Any, Any, States]:
        """(outputs at all steps if it returns them, the last one, the last states), along the first axis of ``steps``.

        mask: (batch, time) or None, in the order of the steps. silent: the output where there was none yet.
        """
        if mask is None:

            def move(carry, now):
                output, states = step(now[0], carry[1:])
                return (output, *states), output if self.return_sequences else None

            (last, *states), outputs = xp.scan(move, (silent, *start), (steps,))
            return outputs, last, tuple(states)

        def move_masked(carry, now):
            before, states = carry[0], carry[1:]
            output, moved = step(now[0], states)
            output = xp.where(_wide(xp, now[1], output), output, silent if self.zero_output_for_mask else before)
            states = [xp.where(_wide(xp, now[1], new), new, old) for new, old in zip(moved, states, strict=True)]
            return (output, *states), output if self.return_sequences else None

        counts = xp.permute_dims(mask, (1, 0))
        (last, *states), outputs = xp.scan(move_masked, (silent, *start), (steps, counts))
        return outputs, last, tuple(states)


def _wide(xp: Any, counts: Any, x: Any) -> Any:
    """Which samples count, with as many axes as x."""
    for _ in range(x.ndim - 1):
        counts = xp.expand_dims(counts, axis=-1)
    return counts


class GatedLayer(Recurrent, UnitGated, abstract=True):
    """A gated cell along time."""

    behind = {"activity_regularizer": "bias_regularizer"}

    activity_regularizer: RegularizerLike | None = None

    def define(self, xp, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
        weights = (kernel, recurrent_kernel, bias)
        return self.along(xp, x, self, weights, training, mask, initial_state, rng)


class SimpleRNN(GatedLayer, Elman):
    """h[t] = activation(x[t] @ kernel + h[t - 1] @ recurrent_kernel + bias). State: h.

    dropout, recurrent_dropout: shares of the inputs and of h that are dropped (not kept); drawn once for all steps.
    Source: Elman, Finding structure in time, 1990, doi:10.1207/s15516709cog1402_1.
    """

    behind = {"seed": "unroll"}


class GRU(GatedLayer, GatedUnits):
    """Gated recurrent units.

        z, r = sigmoid(split(x @ kernel + h @ recurrent_kernel + bias, the first 2 of 3))
        g = tanh(x @ kernel_g + r * (h @ recurrent_kernel_g + bias_1g) + bias_0g)       with reset_after
        g = tanh(x @ kernel_g + (r * h) @ recurrent_kernel_g + bias_g)                  without
        h = z * h + (1 - z) * g

    sigmoid stands for recurrent_activation, tanh for activation. Gates lie z r g along the last axis of every weight;
    with reset_after the bias has two rows, the second for the state's part. State: h.
    dropout, recurrent_dropout: shares of the inputs and of h that are dropped (not kept); drawn once for all steps.
    implementation: 2 drops the same inputs for all gates; 1 (and any recurrent_dropout) draws anew for each gate.
    unroll and use_cudnn are hints to backends and change nothing that is computed.
    Elsewhere: PyTorch has the gates in the order r z g, and reset_after alone.
    Source: Cho et al. 2014, arXiv:1406.1078 (without reset_after: version 1; with: version 3).
    """

    behind = {"reset_after": "unroll"}

    use_cudnn: Literal["auto"] | bool = "auto"


class LSTM(GatedLayer, LongShortTerm):
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

    use_cudnn: Literal["auto"] | bool = "auto"


class RNN(Recurrent):
    """Any cell, or a list of cells one upon the other, carried along time."""

    behind = {"cell": None, "zero_output_for_mask": "unroll"}

    cell: CellLike
    zero_output_for_mask: bool = False

    x = In("n t ...")
    inner = Weights("cell", "n ...")

    @property
    def states(self) -> int:  # type: ignore[override]
        return self.cell.states

    @property
    def seed(self) -> int | None:
        """The cell's own."""
        return getattr(self.cell, "seed", None)

    def _step(self, x: Shape) -> Shape:
        return (x[0], *x[2:])

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        self.solve(*shapes)
        batch, *rest = self.cell.output_shapes(self._step(shapes[0]))[0]
        time = (shapes[0][1],) if self.return_sequences else ()
        return ((batch, *time, *rest), *(self.state_shapes(*shapes) if self.return_state else ()))

    def state_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return self.cell.state_shapes(self._step(shapes[0]))

    def define(self, xp, x, inner, training, mask, initial_state, rng):
        return self.along(xp, x, self.cell, inner, training, mask, initial_state, rng)


class ConvLSTM(Recurrent, LongShortTerm, Windowed, abstract=True):
    """An LSTM over images, whose gates are convolutions of the input and of the state.

    Gates and states are those of LSTM, with x[t] * kernel in place of the product with the input, and h *
    recurrent_kernel, of padding "same" and stride 1, in place of that with the state.
    Source: Shi et al., Convolutional LSTM network, 2015, arXiv:1506.04214 (without its peepholes).
    """

    behind = {
        "filters": None, "kernel_size": "filters", "strides": "kernel_size", "padding": "strides",
        "data_format": "padding", "dilation_rate": "data_format", "activity_regularizer": "bias_regularizer",
    }  # fmt: skip

    formerly = RECURRENT | CONVOLUTION

    filters: Size
    kernel_size: Window
    strides: Window = 1
    padding: Literal["valid", "same"] = "valid"
    data_format: DataFormat = None
    dilation_rate: Window = 1
    activity_regularizer: RegularizerLike | None = None

    x = In("n t *space c")
    kernel = Weight("*kernel_size c gates*filters")
    recurrent_kernel = Weight("*kernel_size filters gates*filters", role="recurrent")
    bias = Weight("*bias_shape", init="bias_start")

    convolution: ClassVar[type[Conv]]

    @rule
    def c2_strides_and_dilation_exclude_each_other(self, strides, dilation_rate):
        return max(strides) == 1 or max(dilation_rate) == 1

    @property
    def size(self) -> int:
        return self.filters

    @property
    def window(self) -> tuple[int, ...]:
        return self.kernel_size

    @property
    def dilation(self) -> tuple[int, ...]:
        return self.dilation_rate

    def places_of(self, shape: Shape) -> Shape:
        return shape  # time stands before the channels, whichever way these lie

    def _pattern(self, declared: In | Out) -> Pattern:
        return Pattern("n t c *space") if self.data_format == "channels_first" else declared.pattern

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        states = self.state_shapes(*shapes)
        batch, *rest = states[0]
        time = (shapes[0][1],) if self.return_sequences else ()
        return ((batch, *time, *rest), *(states if self.return_state else ()))

    def state_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        places = self.lookup("places", self.solve(*shapes))
        image = (*places, self.filters) if self.data_format == "channels_last" else (self.filters, *places)
        return ((shapes[0][0], *image),) * 2

    _convolve: Callable[..., Any] | None = None
    _others: dict[Callable[..., Any], Any]

    def by(self, convolve: Callable[[Conv, Any, Any, None], Any]) -> ConvLSTM:
        """The same layer, for kernels: its convolutions are computed by a backend's kernel of convolutions."""
        others = self.__dict__.setdefault("_others", {})
        if convolve not in others:
            others[convolve] = self.replace()
            others[convolve]._convolve = convolve
        return others[convolve]

    @cached_property
    def last(self) -> ConvLSTM:
        """The same layer over images whose channels stand last."""
        found = self.replace(data_format="channels_last")
        found._convolve = self._convolve
        return found

    @cached_property
    def into(self) -> Conv:
        """The convolution of the input."""
        shared = ("kernel_size", "strides", "padding", "dilation_rate")
        return self._convolution(**{name: getattr(self, name) for name in shared})

    @cached_property
    def within(self) -> Conv:
        """The convolution of the state."""
        return self._convolution(kernel_size=self.kernel_size, padding="same")

    def _convolution(self, **given: Any) -> Conv:
        shared: dict[str, Any] = {"data_format": "channels_last", "use_bias": False, "dtype": self.compute_dtype}
        return self.convolution(filters=4 * self.filters, **given, **shared)

    def convolve(self, xp: Any, convolution: Conv, x: Any, kernel: Any) -> Any:
        """A convolution of images, channels last."""
        if self._convolve is None:
            return convolution.define(xp, x, kernel, None)
        return self._convolve(convolution, x, kernel, None)

    def of_input(self, xp: Any, x: Any, kernel: Any) -> Any:
        if x.ndim == len(self.kernel_size) + 2:
            return self.convolve(xp, self._cut(self.into, kernel), x, kernel)
        # All steps as one batch.
        y = self.convolve(xp, self._cut(self.into, kernel), xp.reshape(x, (-1, *x.shape[2:])), kernel)
        return xp.reshape(y, (xp.size(x, 0), xp.size(x, 1), *y.shape[1:]))

    def of_state(self, xp: Any, h: Any, kernel: Any) -> Any:
        return self.convolve(xp, self._cut(self.within, kernel), h, kernel)

    @staticmethod
    def _cut(convolution: Conv, kernel: Any) -> Conv:
        """The convolution for some of the gates only."""
        filters = kernel.shape[-1]
        return convolution if filters == convolution.filters else convolution.replace(filters=filters)

    def define(self, xp, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
        weights = (kernel, recurrent_kernel, bias)
        if self.data_format == "channels_last":
            return self.along(xp, x, self, weights, training, mask, initial_state, rng)
        x, initial_state = _moved_last(xp, x, 2), tuple(_moved_last(xp, s, 1) for s in initial_state or ()) or None
        found = self.last.along(xp, x, self.last, weights, training, mask, initial_state, rng)
        y = _moved_first(xp, found.outputs, 1 + self.return_sequences)
        return Result(y, states=tuple(_moved_first(xp, state, 1) for state in found.states))


def _moved_last(xp: Any, x: Any, axis: int) -> Any:
    return xp.permute_dims(x, (*(i for i in range(x.ndim) if i != axis), axis))


def _moved_first(xp: Any, x: Any, axis: int) -> Any:
    return xp.permute_dims(x, (*range(axis), x.ndim - 1, *range(axis, x.ndim - 1)))


class ConvLSTM1D(ConvLSTM):
    """An LSTM over sequences of sequences."""

    rank = 1
    convolution = Conv1D


class ConvLSTM2D(ConvLSTM):
    """An LSTM over sequences of images."""

    rank = 2
    convolution = Conv2D


class ConvLSTM3D(ConvLSTM):
    """An LSTM over sequences of volumes."""

    rank = 3
    convolution = Conv3D
