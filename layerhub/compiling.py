"""Compiling: what a model is trained by and measured with, from what ``compile`` is given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from layerhub import scope
from layerhub.errors import BackendError, ParameterError, StateError
from layerhub.execution import Executor, LossTerm, MetricTerm, Program, Running
from layerhub.registry import registry
from layerhub.spec.base import Kind, Spec
from layerhub.spec.core import InputLayer
from layerhub.spec.losses import FunctionLoss, Loss, losses
from layerhub.spec.metrics import FunctionMetric, Metric, metrics
from layerhub.spec.optimizers import BaseOptimizer, LossScaleOptimizer, optimizers
from layerhub.writing import Writable


class Compiled(Writable):
    """A network that knows its optimizer, losses and metrics."""

    optimizer: BaseOptimizer | None = None
    _losses: list[LossTerm] = []
    _metrics: list[MetricTerm] = []
    _compiled: tuple[Any, ...] = (None,) * 4
    _running = Running()
    _weight_modes: Any = None

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
        *,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
        sample_weight_mode: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        """Say how to train.

        optimizer: an optimizer or its name. loss: a loss, a name or a function (y_true, y_pred) of lh.ops; for
        several outputs a list or a dict by output name, None leaving an output out. loss_weights: their shares in the
        total. metrics: names, metrics or functions; a list for each output where there are several.
        run_eagerly: call by call, for debugging, also where the backend would compile. steps_per_execution: batches
        that are trained on or measured at once; callbacks are told once for all of them. jit_compile: let the backend's
        compiler make one program of a step (torch.compile, XLA); "auto": what the backend does by itself.
        auto_scale_loss: where a layer computes in float16, whose range is small, the loss is scaled
        (LossScaleOptimizer). sample_weight_mode: "temporal" where sample weights are (batch, time); for several
        outputs a list or a dict.
        An error leaves the model compiled as it was.
        """
        optimizer = _accepted(optimizers, optimizer, "optimizer")
        if auto_scale_loss and optimizer.loss_scale is None and self._computes_in("float16"):
            optimizer = LossScaleOptimizer(optimizer)
        running = Running.of(run_eagerly, steps_per_execution, jit_compile)
        arguments = (loss, loss_weights, metrics, weighted_metrics)
        _modes(sample_weight_mode)
        if self.inputs:
            terms = self._terms(*arguments)
            self._by_output(sample_weight_mode, "sample_weight_mode")
        if backend is not None or device is not None:
            self.to(scope.chosen(backend) if backend else None, device)
        if self.inputs:
            self._losses, self._metrics = terms
        self.optimizer, self._compiled, self._running = optimizer, arguments, running
        self._weight_modes = sample_weight_mode
        self._unbind()

    def _computes_in(self, dtype: str) -> bool:
        """Whether a layer, or one of a nested model, computes in a type."""
        return any(
            layer._computes_in(dtype) if isinstance(layer, Compiled) else layer.compute_dtype == dtype
            for layer in self.layers
            if not isinstance(layer, InputLayer)
        )

    def _connect(self, *graph: Any) -> None:
        super()._connect(*graph)
        if self.optimizer is not None:  # compiled before its shape was known
            self._losses, self._metrics = self._terms(*self._compiled)

    # Losses and metrics

    def _terms(
        self, loss: Any, loss_weights: Any, metrics: Any, weighted: Any
    ) -> tuple[list[LossTerm], list[MetricTerm]]:
        terms = self._loss_terms(loss, loss_weights)
        by_output = {term.output: term.loss for term in terms}
        names = Names()
        plain = self._metric_terms(metrics, False, by_output, names)
        return terms, plain + self._metric_terms(weighted, True, by_output, names)

    def _by_output(self, given: Any, what: str) -> list[Any]:
        """One entry for each output, from one, a list or a dict."""
        names = self.output_names
        if isinstance(given, Mapping):
            unknown = [key for key in given if key not in names]
            if unknown:
                raise ParameterError(f"compile: {what} for {unknown[0]!r}, but the outputs are {', '.join(names)}")
            return [given.get(name) for name in names]
        if isinstance(given, (list, tuple)) and (len(names) > 1 or what != "metrics"):
            if len(given) != len(names):
                raise ParameterError(f"compile: {len(given)} entries of {what} for {len(names)} outputs")
            return list(given)
        return [given, *[None] * (len(names) - 1)] if what == "metrics" and given is not None else [given] * len(names)

    def _loss_terms(self, given: Any, weights: Any) -> list[LossTerm]:
        shares = self._by_output(weights, "loss_weights") if weights is not None else [1.0] * len(self.outputs)
        found = []
        for i, (loss, share) in enumerate(zip(self._by_output(given, "loss"), shares, strict=True)):
            if loss is not None:
                loss = FunctionLoss(loss) if _is_function(loss) else _accepted(losses, loss, "loss")
                found.append(LossTerm(i, loss, _share(share)))
        return found

    def _metric_terms(
        self, given: Any, weighted: bool, by_output: Mapping[int, Loss], names: Names
    ) -> list[MetricTerm]:
        if given is None:
            return []
        several = len(self.outputs) > 1
        lists = self._by_output(given, "metrics") if several or isinstance(given, Mapping) else [given]
        found = []
        for i, wanted in enumerate(lists):
            prefix = f"{self.output_names[i]}_" if several else ""
            for metric in _flat(wanted):
                made = self._metric(metric, i, by_output.get(i))
                name = names.taken(prefix, metric if isinstance(metric, str) else made.label, weighted)
                found.append(MetricTerm(i, made, name, weighted))
        return found

    def _metric(self, given: Any, output: int, loss: Loss | None) -> Metric:
        if isinstance(given, str) and given.lower() in ("accuracy", "acc"):
            return metrics.get(self._accuracy(output, loss))
        return FunctionMetric(given) if _is_function(given) else _accepted(metrics, given, "metrics")

    def _accuracy(self, output: int, loss: Loss | None) -> str:
        """The accuracy that fits an output and its loss."""
        if loss is not None and loss.integer_targets:
            return "SparseCategoricalAccuracy"
        return "BinaryAccuracy" if self.outputs[output].shape[-1] == 1 else "CategoricalAccuracy"

    @property
    def metrics_names(self) -> list[str]:
        """The names that evaluate's figures have, in its order: Keras's, which sorts those of several outputs."""
        names = [term.name for term in self._metrics]
        return [*self._loss_names, *(sorted(names) if len(self.outputs) > 1 else names)]

    @property
    def _loss_names(self) -> list[str]:
        """The names of the losses: of the total, and of each output where there are several."""
        several = [f"{self.output_names[t.output]}_loss" for t in self._losses] if len(self._losses) > 1 else []
        return ["loss", *several]

    # What runs it

    def _program(self) -> Program:
        return Program(
            registry(), self.plan, self._variables(), self._losses, self._metrics, self.optimizer, self._running
        )

    def _ready(self, needs_loss: bool = True) -> Executor:
        """The executor, ready to train. Raises StateError before compile."""
        if self.optimizer is None:
            raise StateError(f"{self.name} is not compiled: call compile(optimizer, loss, metrics) first")
        if needs_loss and not self._losses:
            raise StateError(f"{self.name} was compiled without a loss: call compile(optimizer, loss, metrics)")
        executor = self.executor
        executor.prepare()
        return executor

    def _ready_to_train(self, needs_loss: bool = True) -> Executor:
        """The same; raises BackendError where the backend has no gradients."""
        executor = self._ready(needs_loss)
        return self._differentiable(executor)

    def _differentiable(self, executor: Executor) -> Executor:
        """The executor; raises BackendError where its backend has no gradients."""
        if not executor.backend.has_gradients:
            raise BackendError(
                f"the backend {self.backend!r} has no gradients, so {self.name} cannot be trained on it; train it on "
                "another one, such as model.to('numpy'), and move it back"
            )
        return executor

    def _carry(self, before: Executor, after: Executor) -> None:
        super()._carry(before, after)
        if self.optimizer is not None and before.movement is not None:
            before.settle()
            after.resting = before.resting | before.held_slots()
            after.scaling, after.swapped = before.scaling, before.swapped
            # What was frozen or thawed since then takes effect where it would have without the move.
            after.prepare([before.program.variables[i] for i in before.trainable])
            after.load_metric_values(before.metric_values())


class Names:
    """Gives metrics the names that Keras gives them: ``mae``, ``mae_1``; ``weighted_mae`` beside a plain one."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def taken(self, prefix: str, name: str, weighted: bool) -> str:
        """A name that no other metric has, which is taken from now on."""
        if weighted and prefix + name in self._counts:
            name = f"weighted_{name}"
        whole = prefix + name
        count = self._counts.get(whole, 0)
        self._counts[whole] = count + 1
        return f"{whole}_{count}" if count else whole


def _flat(wanted: Any) -> Iterator[Any]:
    """Metrics one by one: one alone, a list of them, or a list of such lists; None is none."""
    for metric in wanted if isinstance(wanted, (list, tuple)) else [wanted]:
        if isinstance(metric, (list, tuple)):
            yield from _flat(metric)
        elif metric is not None:
            yield metric


def _modes(given: Any) -> None:
    """Raise ParameterError where a mode of sample weights is none."""
    modes: Iterable[Any] = given.values() if isinstance(given, Mapping) else [given]
    modes = given if isinstance(given, (list, tuple)) else modes
    wrong = next((mode for mode in modes if mode not in (None, "temporal")), None)
    if wrong is not None:
        raise ParameterError(f"compile: sample_weight_mode must be None or 'temporal', not {wrong!r}")


def _accepted(kind: Kind, given: Any, name: str) -> Any:
    try:
        return kind.get(given)
    except TypeError:
        raise ParameterError(f"compile: {name} must be {kind.domain().text}, not {given!r}") from None


def _share(given: Any) -> float:
    """What a loss counts in the total."""
    if given is None:
        return 1.0
    if not isinstance(given, (int, float, np.number)) or not math.isfinite(given):
        raise ParameterError(f"compile: loss_weights must be numbers, not {given!r}")
    return float(given)


def _is_function(x: Any) -> bool:
    return callable(x) and not isinstance(x, (Spec, type))


def fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Whether the sizes are the first ones of what is wanted, or 1, which broadcasts."""
    return all(w is None or s in (1, w) for s, w in zip(shape, wanted, strict=False))
