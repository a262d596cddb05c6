"""Wrappers: layers made of other layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from layerhub.errors import ParameterError, ShapeError
from layerhub.spec.axes import Shape
from layerhub.spec.base import axis as derived
from layerhub.spec.base import rule, serialize
from layerhub.spec.domains import Domain, Size
from layerhub.spec.initializers import TruncatedNormal
from layerhub.spec.layer import In, Layer, Out, Result, Weight, Weights, WeightSpec, layers
from layerhub.spec.masks import MaskRule, absorbs
from layerhub.spec.merge import Add, Average, Concatenate, Multiply
from layerhub.spec.recurrent import Recurrent


def _accept_recurrent(value: Any, owner: Any) -> Recurrent:
    layer = layers.get(value)
    if not isinstance(layer, Recurrent):
        raise TypeError
    return layer


def _config(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": name, "config": config}


RecurrentLike = Annotated[
    Any,
    Domain(
        "a recurrent layer, such as LSTM(8)",
        _accept_recurrent,
        encode=serialize,
        valid=(
            _config("LSTM", units=3),
            _config("GRU", units=3, return_sequences=True),
            _config("GRU", units=3, return_sequences=True, go_backwards=True),
            _config("SimpleRNN", units=2, return_state=True, go_backwards=True),
            _config("LSTM", units=3, stateful=True, return_sequences=True, return_state=True),
            _config("ConvLSTM1D", filters=2, kernel_size=2, return_sequences=True),
            _config("RNN", cell=_config("GRUCell", units=2), return_state=True),
            _config("SimpleRNN", units=3, dropout=0.4, recurrent_dropout=0.3),
        ),
        invalid=(3, "dense"),
    ),
]


def _accept_layer(value: Any, owner: Any) -> Layer:
    return layers.get(value)


LayerLike = Annotated[
    Any,
    Domain(
        "a layer, such as Dense(8)",
        _accept_layer,
        encode=serialize,
        valid=(
            _config("Dense", units=3, activation="tanh"),
            _config("BatchNormalization", momentum=0.6),
            _config("Conv1D", filters=2, kernel_size=2, padding="same"),
            _config("Dropout", rate=0.4),
            _config("LSTM", units=2, return_sequences=True),
            _config("Embedding", input_dim=5, output_dim=3),
        ),
        invalid=(3, "no_such_layer"),
    ),
]


class Wrapper(Layer):
    """A layer that stands for another one; the base of wrappers of one's own, which override ``compose``."""

    layer: LayerLike

    x = In("...", kind="any")
    inner = Weights("child", "...")

    @property
    def child(self) -> Layer:
        """The wrapped layer, computing in this one's type; frozen where this one is."""
        # Either may be frozen, and thawed, at any time.
        self._child.trainable = self.trainable and self.layer.trainable
        return self._child

    @cached_property
    def _child(self) -> Layer:
        return self.layer.replace(dtype=self.dtype)

    def output_dtype(self, *dtypes: str) -> str:
        return self.child.output_dtype(*dtypes)

    def compose(self, do, x, inner, training):
        return do(self.child, x, *self.grouped(inner))

    def grouped(self, inner: tuple) -> list[Any]:
        """The wrapped layer's weights as its definition takes them."""
        return grouped(self.child, inner)


def grouped(layer: Layer, weights: Sequence[Any]) -> list[Any]:
    """All weights of a layer as its definition takes them: one by one, or in blocks."""
    left, found = list(weights), []
    for declared in layer.held:
        count = declared.count(layer)
        own, left = left[:count], left[count:]
        found.append(own[0] if isinstance(declared, Weight) else tuple(own))
    return found


class _Fold(Layer):
    """Samples and their steps as one axis: (n, t, …) to (n * t, …), also of a mask that says more than which count."""

    x = In("n t ...", kind="any")
    y = Out("n ...")
    mask = MaskRule(
        "passes on what a mask says within each step",
        lambda layer, has: has[0],
        lambda layer, xp, xs, masks: xp.reshape(masks[0], (-1, *masks[0].shape[2:])),
        least=3,
        shape=lambda layer, shapes, masks: (None, *masks[0][2:]),
    )

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        batch, time, *rest = shapes[0]
        return ((None if None in (batch, time) else batch * time, *rest),)  # type: ignore[operator]

    def output_dtype(self, *dtypes: str) -> str:
        return dtypes[0]

    def define(self, xp, x):
        return xp.reshape(x, (-1, *x.shape[2:]))


class _Unfold(Layer):
    """The reverse of ``_Fold``: x with the samples and steps of ``like``.

    Its mask is that of x; else that of ``like``, by which a step counts where anything within it does.
    """

    x = In("m ...", kind="any")
    like = In("n t ...", kind="any")
    y = Out("n t ...")
    mask = MaskRule(
        "unfolds the mask of the first input, or has that of the second",
        lambda layer, has: any(has),
        lambda layer, xp, xs, masks: layer.masked(xp, xs[1], *masks),
        least=2,
        shape=lambda layer, shapes, masks: (*shapes[1][:2], *(masks[0][1:] if masks[0] is not None else ())),
    )

    def masked(self, xp: Any, like: Any, own: Any, steps: Any) -> Any:
        """The mask of the output."""
        if own is not None:
            return xp.reshape(own, (xp.size(like, 0), xp.size(like, 1), *own.shape[1:]))
        return xp.any(steps, axis=tuple(range(2, steps.ndim))) if steps.ndim > 2 else steps

    def solve(self, *shapes: Shape | None) -> dict[str, Any]:
        # The two have nothing in common but their number of samples times steps.
        return {"shapes": shapes}

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return ((*shapes[1][:2], *shapes[0][1:]),)

    def output_dtype(self, *dtypes: str) -> str:
        return dtypes[0]

    def define(self, xp, x, like):
        return xp.reshape(x, (xp.size(like, 0), xp.size(like, 1), *x.shape[1:]))


class _Step(Layer):
    """One step of a sequence: (n, t, …) to (n, …), and of its mask."""

    index: int

    x = In("n t ...", kind="any")
    y = Out("n ...")
    mask = MaskRule(
        "has the mask of its step",
        lambda layer, has: has[0],
        lambda layer, xp, xs, masks: masks[0][:, layer.index, ...],
        shape=lambda layer, shapes, masks: (masks[0][0], *masks[0][2:]),
    )

    def output_dtype(self, *dtypes: str) -> str:
        return dtypes[0]

    def define(self, xp, x):
        return x[:, self.index, ...]


class _Steps(Layer):
    """Arrays as the steps of a sequence: (n, …) each to (n, t, …); the last input, which has the mask, is not one."""

    xs = In("...", kind="any", many=True)
    y = Out("...")
    mask = MaskRule(
        "has the mask of the last input", lambda layer, has: has[-1], lambda layer, xp, xs, masks: masks[-1]
    )

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        batch, *rest = shapes[0]
        return ((batch, len(shapes) - 1, *rest),)

    def output_dtype(self, *dtypes: str) -> str:
        return dtypes[0]

    def define(self, xp, xs):
        return xp.stack(xs[:-1], axis=1)


class TimeDistributed(Wrapper):
    """A layer applied to every step of a sequence: y[:, t] = layer(x[:, t]).

    A layer whose state a call in training moves, such as batch normalization, sees the steps one after the other, each
    with what the one before made of its state; the number of steps must then be known. Any other layer sees all steps
    at a time, as so many samples more.
    A mask (batch, time, …) that says more than which steps count, as that of an embedding of texts of sentences, is
    handed to the layer, step by step; the output has the mask that the layer gives, or else its steps count where
    anything within them does.
    """

    x = In("n t ...", kind="any")
    inner = Weights("child", "n ...")

    @property
    def moves(self) -> bool:
        """Whether the wrapped layer has weights that a call gives new values."""
        return any(isinstance(declared, Weight) and not declared.trainable for declared in self.child.held)

    def compose(self, do, x, inner, training):
        weights = self.grouped(inner)
        if not (training and self.moves and self.child.trainable):
            y = do(self.child, do(_Fold(), x), *weights)
            return do(_Unfold(), y, x)
        time = x.shape[1]
        if time is None:
            raise ShapeError(
                f"{self!r}: {type(self.layer).__name__} moves its state at each step; their number is unknown"
            )
        steps = [do(self.child, do(_Step(t), x), *weights) for t in range(time)]
        return do(_Steps(), *steps, x)


class _OfUnitNorm(Layer):
    """A kernel divided by its largest singular value, as an estimate of it by power iteration has it.

    The gradient takes the division for a constant shift: it is that of the result.
    """

    power_iterations: Size

    kernel = In("... c")
    vector_u = Weight("1 c", trainable=False)
    y = Out("... c")
    mask = absorbs

    def define(self, xp, kernel, vector_u):
        w = xp.reshape(xp.stop_gradient(kernel), (-1, kernel.shape[-1]))
        u = xp.stop_gradient(vector_u)
        for _ in range(self.power_iterations):
            v = self._unit(xp, xp.matmul(u, xp.permute_dims(w, (1, 0))))
            u = self._unit(xp, xp.matmul(v, w))
        sigma = xp.matmul(xp.matmul(v, w), xp.permute_dims(u, (1, 0)))
        scaled = xp.reshape(w / sigma, kernel.shape)
        return Result(kernel + (scaled - xp.stop_gradient(kernel)), {"vector_u": u})

    @staticmethod
    def _unit(xp: Any, x: Any) -> Any:
        total = xp.sum(x * x)
        return x / xp.sqrt(xp.where(total <= 1e-12, xp.full_like(total, 1e-12), total))


class SpectralNormalization(Wrapper):
    """A layer whose kernel each call in training divides by its largest singular value, before it is used.

    The kernel itself becomes what it is divided to, and the optimizer goes on from there; other calls take it as it is.
    power_iterations: steps of the power iteration; the vector that they start from is kept from call to call.
    Source: Miyato et al. 2018, arXiv:1802.05957, algorithm 1.
    """

    power_iterations: Size = 1

    vector_u = Weight("1 columns", init=TruncatedNormal(0.0, 0.02), trainable=False)

    @derived
    def columns(self, shapes):
        return self.child.weight_specs(*shapes)[self.place].shape[-1]

    @property
    def place(self) -> int:
        """Where the kernel stands among the weights of the wrapped layer."""
        names = [declared.name for declared in self.child.held]
        for name in ("kernel", "embeddings"):
            if name in names:
                return names.index(name)
        raise ParameterError(f"{self!r}: {type(self.layer).__name__} has no weight called kernel or embeddings")

    def weight_specs(self, *shapes: Shape | None) -> list[WeightSpec]:
        # Keras has the kernel and the vector first, then whatever else the wrapped layer holds.
        found = super().weight_specs(*shapes)
        first = (f"inner/{self.child.held[self.place].name}", "vector_u")
        return sorted(found, key=lambda spec: first.index(spec.name) if spec.name in first else len(first))

    def compose(self, do, x, inner, vector_u, training):  # type: ignore[override]
        weights = self.grouped(inner)
        if not (training and self.child.trainable):
            return do(self.child, x, *weights)
        part = _OfUnitNorm(self.power_iterations, dtype=self.child.compute_dtype)
        kept = weights[self.place]
        weights[self.place] = do(part, kept, vector_u)
        return Result(do(self.child, x, *weights), {kept: weights[self.place]})


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

    @rule
    def c1_the_axis_must_exist(self, axis, shapes):
        return -len(shapes[0]) <= axis < len(shapes[0])

    def define(self, xp, x):
        return xp.flip(x, axis=self.axis)


MERGE = {"concat": Concatenate, "sum": Add, "mul": Multiply, "ave": Average}


class Bidirectional(Layer):
    """A recurrent layer run forward and, with weights of its own, backward; the two merged.

    layer: the forward one; its copy that reads backwards is made from its configuration.
    merge_mode: concat, sum, mul, ave; None returns both.
    backward_layer: instead of the copy. Weights, and states: those of the forward layer first.
    Where sequences are returned, both layers give zeros at masked steps.
    Source: Schuster & Paliwal 1997, doi:10.1109/78.650093.
    """

    layer: RecurrentLike
    merge_mode: Literal["concat", "sum", "mul", "ave"] | None = "concat"
    backward_layer: RecurrentLike | None = None

    x = In("n t ...")
    forward = Weights("ahead", "n t ...")
    backward = Weights("back", "n t ...")

    @rule
    def c1_the_layers_read_in_opposite_directions(self, ahead, back):
        return ahead.go_backwards != back.go_backwards

    @rule
    def c2_both_return_sequences_or_neither(self, ahead, back):
        return ahead.return_sequences == back.return_sequences

    @rule
    def c3_both_are_stateful_or_neither(self, ahead, back):
        return ahead.stateful == back.stateful

    @property
    def ahead(self) -> Recurrent:
        """The layer that reads forward; frozen where this one is."""
        self._ahead.trainable = self.trainable and self.layer.trainable
        return self._ahead

    @property
    def back(self) -> Recurrent:
        """The layer that reads backwards; frozen where this one is."""
        self._back.trainable = self.trainable and (self.backward_layer or self.layer).trainable
        return self._back

    @cached_property
    def _ahead(self) -> Recurrent:
        return self._part(self.layer)

    @cached_property
    def _back(self) -> Recurrent:
        return self._part(self.backward_layer or self.layer.replace(go_backwards=not self.layer.go_backwards))

    def _part(self, layer: Recurrent) -> Recurrent:
        return layer.replace(
            return_state=True, zero_output_for_mask=self.layer.return_sequences, dtype=self.compute_dtype
        )

    @property
    def states(self) -> int:  # type: ignore[override]
        return self.ahead.states + self.back.states

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        return self.layer.stateful

    @property
    def return_state(self) -> bool:
        return self.layer.return_state

    def carrying(self) -> Layer:
        inner = {"stateful": False, "return_state": True}
        back = self.backward_layer and self.backward_layer.replace(**inner)
        return self.replace(layer=self.layer.replace(**inner), backward_layer=back)

    def state_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return self.ahead.state_shapes(*shapes) + self.back.state_shapes(*shapes)

    def compose(self, do, x, forward, backward, initial_state):
        half = self.ahead.states
        begin = (None, None) if initial_state is None else (initial_state[:half], initial_state[half:])
        ahead, *ahead_states = do(self.ahead, x, *grouped(self.ahead, forward), initial_state=begin[0])
        back, *back_states = do(self.back, x, *grouped(self.back, backward), initial_state=begin[1])
        if self.layer.return_sequences:
            back = do(Flip(axis=1, dtype=self.compute_dtype), back)
        if self.merge_mode is None:
            outputs: tuple[Any, ...] = (ahead, back)
        else:
            outputs = (do(MERGE[self.merge_mode](dtype=self.compute_dtype), ahead, back),)
        return (*outputs, *ahead_states, *back_states) if self.return_state else outputs
