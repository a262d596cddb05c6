"""Operations in graphs as Keras 3 writes them: a class for each function, tensors in the call, the rest in its config.

What Keras has no class for is written as an ``Operation`` of LayerHub's own, which Keras does not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from layerhub.errors import LayerHubError, UnknownNameError
from layerhub.graph import SYMBOLIC, Node, Tensor
from layerhub.operation import Operation, Place, decoded, encoded
from layerhub.spec import KINDS
from layerhub.spec.core import Activation


class Way(NamedTuple):
    """How Keras has a function.

    kind: its class. arrays: how many arguments its call takes. told: what its config has, in the order of our
    function's arguments, under Keras's names. module: where it is. many: its call takes one list of arrays.
    """

    kind: str
    arrays: int = 1
    told: tuple[str, ...] = ()
    module: str = "keras.src.ops.numpy"
    many: bool = False


NUMPY, MATH, CORE = "keras.src.ops.numpy", "keras.src.ops.math", "keras.src.ops.core"
_REDUCED = ("axis", "keepdims")
WAYS: dict[str, Way] = {
    "concatenate": Way("Concatenate", told=("axis",), many=True),
    "stack": Way("Stack", told=("axis",), many=True),
    "divide": Way("TrueDivide", 2),
    "pow": Way("Power", 2),
    "abs": Way("Absolute"),
    "get_item": Way("GetItem", 2),
    "where": Way("Where", 3),
    "take": Way("Take", 2, ("axis",)),
    "variance": Way("Var", told=_REDUCED),
    "expand_dims": Way("ExpandDims", told=("axis",)),
    "squeeze": Way("Squeeze", told=("axis",)),
    "flip": Way("Flip", told=("axis",)),
    "reshape": Way("Reshape", told=("newshape",)),
    "transpose": Way("Transpose", told=("axes",)),
    "clip": Way("Clip", told=("x_min", "x_max")),
    "astype": Way("Cast", told=("dtype",), module=CORE),
    "erf": Way("Erf", module=MATH),
    **{
        name: Way(kind, 2)
        for name, kind in (
            ("add", "Add"), ("subtract", "Subtract"), ("multiply", "Multiply"), ("matmul", "Matmul"),
            ("maximum", "Maximum"), ("minimum", "Minimum"), ("equal", "Equal"), ("not_equal", "NotEqual"),
            ("less", "Less"), ("less_equal", "LessEqual"), ("greater", "Greater"), ("greater_equal", "GreaterEqual"),
            ("logical_and", "LogicalAnd"), ("logical_or", "LogicalOr"),
        )
    },
    **{
        name: Way(kind)
        for name, kind in (
            ("negative", "Negative"), ("exp", "Exp"), ("expm1", "Expm1"), ("log", "Log"), ("log1p", "Log1p"),
            ("sqrt", "Sqrt"), ("square", "Square"), ("sin", "Sin"), ("cos", "Cos"), ("tanh", "Tanh"), ("sign", "Sign"),
            ("floor", "Floor"), ("logical_not", "LogicalNot"), ("zeros_like", "ZerosLike"), ("ones_like", "OnesLike"),
        )
    },
    **{
        name: Way(kind, told=_REDUCED)
        for name, kind in (
            ("sum", "Sum"), ("mean", "Mean"), ("max", "Max"), ("min", "Min"), ("all", "All"), ("any", "Any"),
            ("argmax", "Argmax"),
        )
    },
}  # fmt: skip
"""Functions of ``layerhub.ops`` that Keras has as operations."""
OURS = {way.kind: name for name, way in WAYS.items()} | {"Divide": "divide"}
"""The other way round."""
DEFAULTS: dict[str, Any] = {"keepdims": False, "axis": None, "axes": None}
BY_NAME = frozenset({"axis", "keepdims"})
"""What our functions take by name."""
SAME = {"concat": ("concatenate", {"axis": 0}), "permute_dims": ("transpose", {})}
"""Functions that are others under another name, with the defaults that these have."""


def _told(layer: Operation) -> tuple[Way, list[Any], dict[str, Any]] | None:
    """(how Keras has it, what its call takes, its config) of an operation; None where Keras has none."""
    name, defaults = SAME.get(layer.function, (layer.function, {}))
    way = WAYS.get(name)
    if way is None:
        return None
    args = list(layer.arguments.args)
    given, rest = args[: way.arrays], args[way.arrays :]
    config = dict(zip(way.told, rest, strict=False))
    for key, value in layer.arguments.kwargs.items():
        if key not in way.told:
            return None
        config[key] = value
    config = {key: config.get(key, defaults.get(key, _default(name, key))) for key in way.told}
    nested = [part for value in config.values() for part in (value if isinstance(value, tuple) else (value,))]
    if len(given) < way.arrays or len(rest) > len(way.told) or any(isinstance(part, Place) for part in nested):
        return None
    return way, given, config


def _default(name: str, key: str) -> Any:
    return {"concatenate": -1, "stack": 0}.get(name) if key == "axis" else DEFAULTS.get(key)


def entry_of(layer: Operation) -> dict[str, Any] | None:
    """An operation as Keras writes it; None where Keras has none."""
    found = _told(layer)
    if found is None:
        return None
    way, _, config = found
    told = {"name": layer.label, **{key: encoded(value) for key, value in config.items()}}
    return {"module": way.module, "class_name": way.kind, "config": told, "registered_name": way.kind}


def args_of(node: Node, tensor: Callable[[Tensor | None], Any]) -> list[Any] | None:
    """The arguments of its call as Keras writes them; None where Keras has no such operation."""
    found = _told(node.layer)
    if found is None:
        return None

    def put(value: Any) -> Any:
        if isinstance(value, Place):
            return tensor(node.inputs[value.number])
        if isinstance(value, tuple):
            return list(map(put, value))
        return encoded(value)

    return list(map(put, found[1]))


class Read:
    """An operation of a config, to be called as the config says."""

    def __init__(self, entry: Mapping[str, Any]):
        config = dict(entry["config"])
        self.label, self.kind = config.pop("name", None), entry["class_name"]
        self.function = OURS.get(self.kind)
        self.config = {key: value for key, value in config.items() if value is not None}
        self.activation: Any = None
        if self.function is None:
            self.activation = _activation(entry, config)
        elif wrong := sorted(self.config.keys() - WAYS[self.function].told):
            raise UnknownNameError(
                f"the config speaks of the operation {self.kind} with {', '.join(wrong)}, which is not known here"
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.activation is not None:
            return Activation(self.activation, name=self.label)(*args)
        way = WAYS[self.function]  # type: ignore[index]
        given: list[Any] = [decoded_call(part) for part in args] + list(kwargs.values())
        told = {key: decoded(self.config[key]) for key in way.told if key in self.config}
        given += [value for key, value in told.items() if key not in BY_NAME]
        y = SYMBOLIC.operate(str(self.function), given, {key: told[key] for key in told if key in BY_NAME})
        y.node.layer.name = self.label
        return y


def decoded_call(value: Any) -> Any:
    """An argument of a call, whose tensors are in their places already."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(decoded_call, value))
    return decoded(value)


def _activation(entry: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """The activation that Keras has as an operation. Raises UnknownNameError."""
    kinds = KINDS["activation"]
    name = entry["class_name"]
    if str(entry.get("module")).startswith(("keras.src.ops.nn", "keras.src.activations")) and name in kinds:
        kind = kinds.find(name)
        try:
            return kind(**{key: value for key, value in config.items() if key in kind.parameters})
        except LayerHubError:
            pass
    raise UnknownNameError(
        f"the config speaks of the operation {name}, which is not known here; write it as a layer, and register it "
        f"(lh.register) or give it in custom_objects={{{name!r}: …}}"
    )
