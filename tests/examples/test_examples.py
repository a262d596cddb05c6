"""The examples run, and what they say they learn they learn: better by far than what needs no learning."""

import ast
import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reader_of_sentences_understands_not():
    found = example("text").main(["--epochs", "5"])
    assert found["counting"] < 0.65
    assert found["accuracy"] > 0.9
    assert found["padding"] < 1e-6


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_forecaster_is_better_than_the_last_value_and_the_last_season(backend):
    found = example("forecast").main(["--epochs", "3", "--backend", backend])
    assert found["error"] < 0.75 * min(found["same"], found["season"])
    assert found["ahead"] == 0


def test_the_forecast_is_seen_to_look_ahead_where_it_does():
    import layerhub as lh

    forecast = example("forecast")
    x = lh.Input((forecast.WINDOW, 1))
    model = lh.Model(x, lh.layers.Conv1D(1, 3, padding="same")(x))
    values, _ = forecast.windows(forecast.series(300, seed=1), step=50)
    assert forecast.sees_ahead(model, values) > 0.01


def test_the_autoencoder_is_better_than_as_many_components():
    found = example("autoencoder").main(["--epochs", "5"])
    assert found["components"] < found["mean"] / 2
    assert found["error"] < 0.8 * found["components"]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_transformer_says_sequences_backwards(backend):
    found = example("transformer").main(["--steps", "250", "--backend", backend])
    assert found["accuracy"] > 0.9 > 10 * found["chance"]


def test_what_torch_learnt_is_served_by_a_process_that_cannot_import_it(capsys):
    found = example("serve").main(["--train-on", "torch"])
    assert found["accuracy"] > 0.9, "a third by chance"
    assert found["numpy"]["frameworks"] == []
    assert found["numpy"]["apart"] < 1e-5
    assert found["numpy"]["memory"] is None or 20 < found["numpy"]["memory"] < 500
    assert "first answer after" in capsys.readouterr().out


def test_the_server_refuses_frameworks_and_nothing_else():
    refuse = example("serve").Refuse()
    for name in ("torch", "torch.nn", "tensorflow", "jax.numpy", "keras"):
        with pytest.raises(ImportError, match="serves without"):
            refuse.find_spec(name)
    assert refuse.find_spec("json") is None
    assert refuse.find_spec("torchvision") is None


def test_every_example_is_in_the_list_and_says_how_it_is_started():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f"[{path.name}]({path.name})" in listed
        assert f"python examples/{path.name}" in ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_digits_that_are_judged_are_read_by_the_best_model_that_was_saved(tmp_path):
    import layerhub as lh

    digits = example("digits")
    data, watched, held_back = digits.digits()
    assert [len(x) for x, _ in (data, watched, held_back)] == [1212, 135, 450]
    model, curve, accuracy, _ = digits.train("numpy", data, watched, held_back, epochs=4, folder=tmp_path)
    assert accuracy > 0.9, "a tenth by chance"
    saved = lh.models.load_model(tmp_path / "digits-numpy.keras")
    assert saved.evaluate(*watched, verbose=0)[0] == pytest.approx(min(curve["val_loss"]), rel=1e-6)
    assert digits.moved(model, "numpy", ["torch"], held_back[0]) < 1e-5
    stopped = {name: values[:2] for name, values in curve.items()}
    digits.draw({"numpy": curve, "stopped early": stopped}, tmp_path / "digits.png")
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
