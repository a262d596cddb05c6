"""Rules between parameters and sizes: for every one, something is found that breaks it first of all, and the error has
its number and words. (Bad values of single parameters: test_parameters.py.)
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from layerhub_conformance.case import Case
from layerhub_conformance.cases import corpus

from layerhub.errors import LayerHubError, ParameterError, ShapeError
from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub.spec.base import Spec, rule
from layerhub.spec.layer import Layer

registry()
LAYERS = sorted(name for name, origin in KINDS["layer"].origin.items() if origin == "layerhub")


@cache
def examples(layer: str) -> tuple[Case, ...]:
    """The cases of the certifying corpus for a layer."""
    return tuple(case for case in corpus() if case.layer == layer)


def test_every_layer_has_examples():
    assert [name for name in LAYERS if not examples(name)] == []


# Rules


def rules() -> list[Any]:
    return [
        pytest.param(name, definition.name, id=f"{name}-{definition.name}")
        for name in LAYERS
        for definition in KINDS["layer"].find(name).definitions.values()
        if definition.role == "rule"
    ]


def first_broken(layer: Layer, shapes: tuple) -> str | None:
    """The first rule that a layer breaks with inputs of these shapes; later ones may take it for granted."""
    sizes = layer.solve(*shapes)
    for definition in layer.definitions.values():
        if definition.role == "rule":
            values = [layer.lookup(argument, sizes) for argument in definition.arguments]
            if all(value is not None for value in values) and not definition.method(layer, *values):
                return definition.name
    return None


SIZES = (0, 1, 2, 3, 4, 5, 7, -1, 9)


def mutated(value: Any, rng: random.Random) -> Any:
    """Something like a value, but not it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice(SIZES)
    if isinstance(value, str) and value:
        at = rng.randrange(len(value))
        letter = rng.choice(value + "z")
        return rng.choice(
            (value[:at] + value[at + 1 :], value[:at] + letter + value[at:], value[:at] + letter + value[at + 1 :])
        )
    if isinstance(value, (tuple, list)):
        parts = list(value)
        at = rng.randrange(len(parts)) if parts else 0
        kind = rng.random()
        if parts and kind < 0.6:
            parts[at] = mutated(parts[at], rng)
        elif parts and kind < 0.8:
            del parts[at]
        else:
            parts.insert(at, parts[at] if parts else rng.choice(SIZES))
        return tuple(parts)
    if isinstance(value, dict) and value:
        name = rng.choice(sorted(value))
        return value | {name: mutated(value[name], rng)}
    return rng.choice((*SIZES, (1, 2), (2, 2, 2), True))


def varied(case: Case, rng: random.Random) -> tuple[dict[str, Any], tuple]:
    """A case with a few parameters or sizes changed; first of all such as its layer's rules speak of."""
    spec = KINDS["layer"].find(case.layer)
    wanted = {argument for d in spec.definitions.values() if d.role == "rule" for argument in d.arguments}
    names = [name for name in spec.parameters if name in wanted]
    config, shapes = dict(case.config), list(case.shapes)
    for _ in range(rng.choice((1, 1, 2, 3))):
        what = rng.random()
        if what < 0.5:
            name = rng.choice(names if names and rng.random() < 0.7 else [*case.config, *spec.parameters])
            now = config.get(name, spec.parameters[name].default)
            others = [*spec.parameters[name].domain.valid, *config.values()]
            config[name] = mutated(now, rng) if rng.random() < 0.7 or not others else rng.choice(others)
            if isinstance(config[name], dict) and config[name].get("class_name", "") in KINDS["layer"]:
                inner = KINDS["layer"].find(config[name]["class_name"]).parameters
                flag = rng.choice([key for key, p in inner.items() if isinstance(p.default, bool)])
                own = config[name]["config"]
                config[name] = config[name] | {"config": own | {flag: not own.get(flag, inner[flag].default)}}
        elif what < 0.85 and shapes:
            at = rng.randrange(len(shapes))
            shapes[at] = mutated(shapes[at], rng)
        elif shapes and what < 0.93:
            shapes.append(rng.choice(shapes))
        elif shapes:
            shapes.pop()
    return config, tuple(shapes)


@pytest.mark.parametrize(("name", "violated"), rules())
def test_breaking_one_rule_is_told_in_its_words(name, violated, monkeypatch):
    spec = KINDS["layer"].find(name)
    rng = random.Random(f"{name}/{violated}")
    code, _, words = violated.partition("_")
    for _ in range(6000):
        config, shapes = varied(rng.choice(examples(name)), rng)
        with monkeypatch.context() as lenient:
            lenient.setattr(Spec, "_check_rules", lambda self, sizes: None)
            try:
                if first_broken(spec(**config), shapes) != violated:
                    continue
            except (LayerHubError, ArithmeticError, LookupError, TypeError, ValueError):
                continue
        with pytest.raises((ParameterError, ShapeError)) as refused:
            spec(**config).output_shapes(*shapes)
        assert f"{code} {words.replace('_', ' ')}, but " in str(refused.value)
        assert spec.__name__ in str(refused.value)
        return
    raise AssertionError(f"nothing was found that breaks {violated} of {name} alone")


def test_a_rule_is_what_the_tests_above_take_for_one():
    @rule
    def c1_it_is_so(self):
        return True

    assert c1_it_is_so.role == "rule"
