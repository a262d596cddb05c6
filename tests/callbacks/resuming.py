"""Training that is broken off and gone on with: as a program to be killed, and as a function for tests.

python tests/callbacks/resuming.py numpy FOLDER          trains, with backups in FOLDER, and writes what came out
python tests/callbacks/resuming.py --stress 50           kills it at random moments, on every backend, so many times
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import layerhub as lh
from layerhub import callbacks

BACKENDS = ("numpy", "torch", "tensorflow", "jax")
EPOCHS, BATCHES = 6, 5
RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 6)).astype("float32")
Y = RNG.integers(0, 3, size=40)


def classifier(backend: str, seed: int = 5) -> lh.Sequential:
    """A classifier with everything that has state: moving statistics, dropout, Adam, moving averages of the weights."""
    layers = [
        lh.Input((6,)),
        lh.layers.Dense(16, activation="relu"),
        lh.layers.BatchNormalization(),
        lh.layers.Dropout(0.4),
        lh.layers.Dense(3, activation="softmax"),
    ]
    model = lh.Sequential(layers, backend=backend, seed=seed)
    optimizer = lh.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    return model


class Log(callbacks.Callback):
    """Writes a line for each batch, and waits a moment so that there is time to be killed in."""

    figures = False

    def __init__(self, path: Path, pause: float):
        self.path, self.pause = path, pause

    def on_train_batch_end(self, batch, logs=None):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{batch}\n")
        time.sleep(self.pause)


def train(model: lh.Sequential, folder: Path, *more: callbacks.Callback, save_freq: int | str = 2) -> dict:
    """Train with callbacks of all kinds; what is left at the end."""
    listed = [
        callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        callbacks.BackupAndRestore(folder / "backup", save_freq=save_freq),
        callbacks.ReduceLROnPlateau(patience=1, cooldown=1, factor=0.5, min_delta=0.05),
        callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True),
        callbacks.CSVLogger(folder / "log.csv"),
        callbacks.SwapEMAWeights(swap_on_epoch=True),
        *more,
    ]
    data = {"validation_split": 0.25, "batch_size": 6}
    history = model.fit(X, Y, epochs=EPOCHS, verbose=0, callbacks=listed, **data)
    return {
        "weights": model.get_weights(),
        "history": history.history,
        "epochs": history.epoch,
        "rate": model.optimizer.learning_rate,
        "csv": (folder / "log.csv").read_text(encoding="utf-8"),
    }


def same(one: dict, other: dict) -> bool:
    """Whether two trainings ended alike, to the last bit."""
    weights = zip(one["weights"], other["weights"], strict=True)
    rest = all(one[key] == other[key] for key in ("history", "epochs", "rate", "csv"))
    return rest and all(np.array_equal(a, b) for a, b in weights)


# As a program


def run(backend: str, folder: Path, pause: float, save_freq: int | str) -> None:
    """Train, as a process that may be killed."""
    model = classifier(backend)
    (folder / "ready").touch()
    found = train(model, folder, Log(folder / "batches", pause), save_freq=save_freq)
    np.savez(folder / "weights.npz", *found.pop("weights"))
    (folder / "rest.json").write_text(json.dumps(found), encoding="utf-8")


def started(backend: str, folder: Path, pause: float, save_freq: int | str) -> subprocess.Popen:
    """The program, in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, backend, str(folder), f"--pause={pause}", f"--save-freq={save_freq}"]
    return subprocess.Popen(command)


def result(folder: Path) -> dict:
    """What the program left."""
    with np.load(folder / "weights.npz") as held:
        weights = [held[name] for name in held.files]
    return {"weights": weights, **json.loads((folder / "rest.json").read_text(encoding="utf-8"))}


def batches(folder: Path) -> int:
    """How many batches were trained on so far, in all processes."""
    path = folder / "batches"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def killed(backend: str, folder: Path, rng: np.random.Generator, pause: float = 0.01, save_freq: int | str = 2) -> dict:
    """Train, killed once by SIGKILL at a random batch and a random moment after it, then started again."""
    process, at = started(backend, folder, pause, save_freq), int(rng.integers(1, EPOCHS * BATCHES - 2))
    while batches(folder) < at and process.poll() is None:
        time.sleep(0.0005)
    time.sleep(float(rng.uniform(0, 2 * pause)))
    process.send_signal(signal.SIGKILL)
    killed_at, code = batches(folder), process.wait()
    assert started(backend, folder, 0, save_freq).wait() == 0
    return {**result(folder), "killed": code == -signal.SIGKILL, "at": killed_at, "all": batches(folder)}


def stress(times: int, backends: list[str], seed: int) -> bool:
    """Kill it many times on every backend, and say how often it ended as an unbroken run does."""
    import tempfile

    fine = True
    for backend in backends:
        rng = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory() as place:
            whole = Path(place) / "whole"
            assert started(backend, whole, 0, "epoch").wait() == 0
            expected, good, hit, repeated = result(whole), 0, 0, 0
            for k in range(times):
                freq = [1, 2, 3, "epoch"][k % 4]
                found = killed(backend, Path(place) / str(k), rng, save_freq=freq)
                hit += found["killed"]
                repeated += found["all"] - batches(whole)
                good += same(found, expected)
            print(
                f"{backend:<11} killed {hit} of {times}, {repeated} batches done twice, {good} ended alike", flush=True
            )
            fine &= good == times
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", nargs="?", choices=BACKENDS)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--save-freq", type=lambda text: text if text == "epoch" else int(text), default=2)
    parser.add_argument("--stress", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.stress:
        sys.exit(not stress(given.stress, [given.backend] if given.backend else list(BACKENDS), given.seed))
    run(given.backend, given.folder, given.pause, given.save_freq)


if __name__ == "__main__":
    main()
