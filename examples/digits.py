"""Handwritten digits: one classifier, defined once, trained and compared on every installed backend.

    python examples/digits.py [--backends numpy torch ...] [--epochs 12] [--out out]

The data are the 1,797 images of 8 x 8 pixels that come with scikit-learn. A quarter of them is held back, and a tenth
of the others tells after each epoch how training gets on: the best model so far is saved, steps become smaller when
nothing gets better, and training stops when that does not help. What is judged in the end is the saved model, loaded
anew. All backends start from the same weights and see the same shuffles and dropout masks: these come from one seed.
"""

import argparse
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import layerhub as lh

SEED = 7
REQUIRED = 0.97


def classifier(backend):
    """The model; it is the same for every backend."""
    # No bias before a normalisation, which takes it away again: its gradient would be nothing but rounding errors, and
    # Adam makes steps of them that differ between backends.
    # An epoch has 43 steps: at the default momentum of 0.99 the moving statistics would lag behind for ten epochs.
    return lh.Sequential(
        [
            lh.Input((8, 8, 1)),
            lh.layers.Conv2D(32, 3, padding="same", use_bias=False),
            lh.layers.BatchNormalization(momentum=0.9),
            lh.layers.Activation("relu"),
            lh.layers.MaxPooling2D(2),
            lh.layers.Conv2D(64, 3, padding="same", use_bias=False),
            lh.layers.BatchNormalization(momentum=0.9),
            lh.layers.Activation("relu"),
            lh.layers.MaxPooling2D(2),
            lh.layers.Dropout(0.3),
            lh.layers.Flatten(),
            lh.layers.Dense(10, activation="softmax"),
        ],
        backend=backend,
    )


def digits():
    """(x, y) to train on, (x, y) to watch training by, and (x, y) held back; pixels in [0, 1]."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    x, held_x, y, held_y = train_test_split(images, labels, test_size=0.25, random_state=SEED, stratify=labels)
    x, watched_x, y, watched_y = train_test_split(x, y, test_size=0.1, random_state=SEED, stratify=y)
    return (x, y), (watched_x, watched_y), (held_x, held_y)


def train(backend, data, watched, held_back, epochs, folder):
    """The best model, as ``folder`` has it; its loss curves; its accuracy on what is held back; seconds of training."""
    lh.set_random_seed(SEED)
    best = folder / f"digits-{backend}.keras"
    model = classifier(backend)
    model.compile(
        optimizer=lh.optimizers.Adam(0.002),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    callbacks = [
        lh.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True),
        lh.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1),
        lh.callbacks.EarlyStopping(monitor="val_loss", patience=5),
    ]
    start = time.perf_counter()
    history = model.fit(*data, epochs=epochs, batch_size=32, validation_data=watched, callbacks=callbacks, verbose=0)
    seconds = time.perf_counter() - start
    model = lh.models.load_model(best, backend=backend)
    _, accuracy = model.evaluate(*held_back, verbose=0)
    return model, history.history, accuracy, seconds


def moved(model, home, others, x):
    """The largest difference of predictions between a model at home and the same weights on other backends."""
    expected = model.predict(x, verbose=0)
    differences = [np.abs(model.to(other).predict(x, verbose=0) - expected).max() for other in others]
    model.to(home)
    return float(max(differences))


def apart(curves):
    """The largest difference between the backends' curves at any point that all have, as a share of the loss there."""
    length = min(len(curve["loss"]) for curve in curves)
    losses = np.array([curve["loss"][:length] + curve["val_loss"][:length] for curve in curves])
    return float((np.ptp(losses, axis=0) / losses.min(axis=0)).max())


def draw(curves, path):
    """The picture: loss by epoch, on the data trained on and on those that training is watched by."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for index, (name, curve) in enumerate(curves.items()):
        epochs = range(1, len(curve["loss"]) + 1)
        # Curves that coincide hide each other: later ones are thinner, so that earlier ones show at their edges.
        width = 1.5 * (len(curves) - index)
        axes.plot(epochs, curve["loss"], f"C{index}-", linewidth=width, label=f"{name}: trained on")
        axes.plot(epochs, curve["val_loss"], f"C{index}--", linewidth=width, label=f"{name}: watched by")
    title = "Handwritten digits: loss by epoch"
    if len(curves) > 1:
        title += f"\nlargest relative difference between backends: {apart(list(curves.values())):.1e}"
    axes.set(title=title, xlabel="epoch", ylabel="cross-entropy", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backends", nargs="+", metavar="NAME", help="default: every installed one")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the picture and the models")
    options = parser.parse_args(arguments)
    names = list(dict.fromkeys(options.backends or lh.backends()))
    absent = [name for name in names if name not in lh.backends()]
    if absent:
        parser.error(f"no such backend is installed: {', '.join(absent)}; there are: {', '.join(lh.backends())}")

    console = Console()
    data, watched, held_back = digits()
    options.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in names:
        with console.status(f"training on {name}"):
            results[name] = train(name, data, watched, held_back, options.epochs, options.out)

    table = Table(title=f"Handwritten digits: {len(data[0])} to train on, {len(held_back[0])} held back")
    table.add_column("backend")
    table.add_column("epochs", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("largest difference when its weights move", justify="right")
    for name, (model, curve, accuracy, seconds) in results.items():
        others = [other for other in names if other != name]
        difference = f"{moved(model, name, others, held_back[0]):.1e}" if others else "-"
        epochs = f"{len(curve['loss'])}, best {np.argmin(curve['val_loss']) + 1}"
        table.add_row(name, epochs, f"{accuracy:.2%}", f"{seconds:.1f}", difference)
    console.print(table)

    picture = options.out / "digits.png"
    draw({name: curve for name, (_, curve, _, _) in results.items()}, picture)
    console.print(f"Loss curves: {picture}; the best models: {options.out / 'digits-*.keras'}")
    poor = [name for name, (_, _, accuracy, _) in results.items() if accuracy < REQUIRED]
    if poor:
        sys.exit(f"accuracy is below {REQUIRED:.0%} on: {', '.join(poor)}")
    return {name: (curve, accuracy) for name, (_, curve, accuracy, _) in results.items()}


if __name__ == "__main__":
    main()
