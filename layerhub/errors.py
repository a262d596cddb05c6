"""What can go wrong, by kind. Everything that LayerHub raises on purpose is a ``LayerHubError``.

Each kind is also the builtin exception that fits, so that ``except ValueError`` goes on working. A message says who
(the layer, the parameter), what came, what was expected, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LayerHubError(Exception):
    """The root of all errors raised by LayerHub."""


class ParameterError(LayerHubError, ValueError):
    """A parameter has a value outside its domain, or no such parameter exists."""


class ShapeError(LayerHubError, ValueError):
    """Sizes do not fit: each other, or the declaration."""


class DTypeError(LayerHubError, TypeError):
    """An array has a data type that the layer or the backend cannot take."""


class WeightsError(LayerHubError, ValueError):
    """Weights do not fit the layer or model that they were given to. Nothing was changed."""


class DataError(LayerHubError, ValueError):
    """The data given to fit, evaluate or predict do not fit together, or do not fit the model."""


class GraphError(LayerHubError, ValueError):
    """Layers are connected in a way that makes no model."""


class NodeError(GraphError, AttributeError):
    """A layer or tensor lacks an attribute that depends on how it is connected."""


class StateError(LayerHubError, RuntimeError):
    """Something was asked for too early: before a layer has weights, before a model is compiled."""


class TrainingError(LayerHubError, RuntimeError):
    """Training cannot go on."""


class FileFormatError(LayerHubError, ValueError):
    """A file is damaged, or is not what it should be. Nothing was changed."""


class StorageError(LayerHubError, OSError):
    """The system refuses to write a file: the disk is full, the folder is not to be written to. Nothing was changed."""


class MissingPackageError(LayerHubError, ImportError):
    """A library that this needs is not installed; the message has the command that installs it."""


class UnknownNameError(LayerHubError, LookupError, AttributeError):
    """No layer, activation, loss, … of that name is registered."""


class BackendError(LayerHubError, RuntimeError):
    """A backend is not there, is broken, or cannot do what was asked of it."""


class PluginError(LayerHubError, RuntimeError):
    """A plugin breaks the plugin contract."""


class KernelError(PluginError, TypeError):
    """A kernel's signature is not the one that the spec declares."""


class MaskDroppedWarning(UserWarning):
    """A mask reached a layer that cannot use it, and was dropped."""


class OldSpellingWarning(FutureWarning):
    """A parameter was given under the name that it had in Keras 1 or 2; the warning names the new one."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The tail of an error message: `` Did you mean 'units'?`` for the nearest known name, else nothing."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return f" Did you mean {by_lower[near[0]]!r}?" if near else ""
