"""Train on one backend, serve on another: answers come from a process in which no framework is, nor could be.

    python examples/serve.py [--train-on torch] [--compare]

A model is trained and saved here. Then this file starts itself anew, as a server that reads a sample from each line of
its input and writes the probabilities of the classes, on numpy. Before the server imports anything, it refuses to
import any framework, as if none were installed. What it needs, in time to the first answer and in memory, is shown;
with --compare, also what the same server needs on the backend that the model was trained on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FRAMEWORKS = ("torch", "tensorflow", "jax", "keras", "onnxruntime")


# The server


class Refuse:
    """Finds no module of a framework, and says so, wherever it may be installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FRAMEWORKS:
            raise ImportError(f"this process serves without {name}")


def serve(path, backend):
    """Answer each line of the input by a line: the first of them says what is loaded, and what memory that took."""
    if backend == "numpy":
        sys.meta_path.insert(0, Refuse())
    import numpy as np

    import layerhub as lh

    model = lh.models.load_model(path, backend=backend, compile=False)
    model.predict(np.zeros((1, *model.input_shape[1:])), verbose=0)
    for line in sys.stdin:
        answer = model.predict(np.array([json.loads(line)], dtype="float32"), verbose=0)[0]
        loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(FRAMEWORKS))
        print(json.dumps({"classes": answer.tolist(), "frameworks": loaded, "memory": peak_memory()}), flush=True)


def peak_memory():
    """The most memory that this process has had, in MiB; None where the system does not tell."""
    try:
        # Linux: what getrusage has there begins with the memory of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# The client


def ask(path, backend, samples):
    """A server's answers, and seconds from its start to the first of them, and for each of the others."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--serve", str(path), "--on", backend]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        answers, times = [], []
        for sample in samples:
            server.stdin.write(json.dumps(sample.tolist()) + "\n")
            server.stdin.flush()
            line = server.stdout.readline()
            if not line:
                raise RuntimeError(f"the server on {backend} ended without an answer; its error is above")
            answers.append(json.loads(line))
            times.append(time.perf_counter())
        server.stdin.close()
    if server.returncode:
        raise RuntimeError(f"the server on {backend} ended with {server.returncode}")
    return answers, times[0] - start, (times[-1] - times[0]) / max(1, len(times) - 1)


def trained(backend):
    """(a model that knows which of three blobs a point is in, points and labels that it has not seen)"""
    import numpy as np

    import layerhub as lh

    lh.set_random_seed(7)
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=1200)
    centres = np.array([[0, 0, 0, 0], [2, 2, 0, 0], [0, 2, 2, 0]])
    points = (centres[labels] + 0.6 * rng.normal(size=(1200, 4))).astype("float32")
    layers = [
        lh.Input((4,)),
        lh.layers.Dense(32, activation="relu"),
        lh.layers.BatchNormalization(),
        lh.layers.Dense(3, activation="softmax"),
    ]
    model = lh.Sequential(layers, backend=backend, name="blobs")
    model.compile(lh.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(points[:1000], labels[:1000], epochs=5, verbose=0)
    return model, points[1000:], labels[1000:]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--train-on", default=None, metavar="BACKEND", help="default: torch where it is, else numpy")
    parser.add_argument("--compare", action="store_true", help="serve on the backend of the training as well")
    parser.add_argument("--serve", metavar="FILE", help="be the server of this model")
    parser.add_argument("--on", default="numpy", metavar="BACKEND", help="what the server runs on")
    options = parser.parse_args(arguments)
    if options.serve:
        return serve(options.serve, options.on)

    import numpy as np

    import layerhub as lh

    home = options.train_on or ("torch" if "torch" in lh.backends() else "numpy")
    model, samples, labels = trained(home)
    _, accuracy = model.evaluate(samples, labels, verbose=0)
    print(f"trained on {home}: {accuracy:.1%} right on what was held back")
    expected = model.predict(samples, verbose=0)
    results = {"accuracy": accuracy}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blobs.keras"
        model.save(path)
        for backend in dict.fromkeys(["numpy", home] if options.compare else ["numpy"]):
            answers, first, each = ask(path, backend, samples)
            apart = float(np.abs(np.array([answer["classes"] for answer in answers]) - expected).max())
            loaded, memory = answers[-1]["frameworks"], answers[-1]["memory"]
            results[backend] = {"apart": apart, "frameworks": loaded, "memory": memory, "first": first, "each": each}
            shown = "?" if memory is None else f"{memory:.0f} MiB"
            print(
                f"served on {backend}: first answer after {first:.2f} s, then {each * 1e3:.2f} ms each; memory: {shown}"
            )
            print(f"  frameworks loaded: {', '.join(loaded) or 'none'}; answers differ by at most {apart:.0e}")
    return results


if __name__ == "__main__":
    main()
