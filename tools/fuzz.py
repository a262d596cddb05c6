"""Feed changed files and configs to everything that reads them; nothing may come out but success or a LayerHubError.

    python tools/fuzz.py --inputs 100000 --seed 0 --processes 3 --write docs/fuzzing.md

Input k depends on the seed and on k alone; ``--only k`` runs it by itself, and ``--keep FOLDER`` writes it down. A
process of its own reads the inputs, with a limit of memory; the one that watches it notices when it dies or hangs, and
starts another. Files are changed byte by byte (bits, fields, cuts, splices) and, where checksums would find that, in
the parts that they are made of; configs are changed as the trees that they are.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import layerhub as lh
from layerhub.errors import LayerHubError

PATIENCE = 20.0
"""Seconds that an input may take."""
MEMORY = 1 << 30
"""Bytes that a process may take beyond what it has when it begins."""
L = lh.layers


# What is changed: small files of every kind


def models() -> dict[str, Callable[[], Any]]:
    """Models whose files are changed."""

    def dense() -> Any:
        layers = [lh.Input((3,)), L.Dense(2, activation="relu"), L.BatchNormalization(), L.Dense(2)]
        return lh.Sequential(layers, seed=1, name="dense")

    def graph() -> Any:
        a, b = lh.Input((3, 2), name="a"), lh.Input((2,), name="b")
        inner = lh.Sequential([lh.Input((2,)), L.Dense(2, name="i")], name="inner")
        x = L.Bidirectional(L.GRU(2, return_sequences=True))(L.Masking()(a))
        y, h, c = L.LSTM(2, return_state=True)(x)
        z = L.Concatenate()([y, h, c, inner(inner(b))])
        return lh.Model([a, b], [L.Dense(1, name="o")(z), L.Dropout(0.2)(z)], seed=2, name="graph")

    def image() -> Any:
        x = lh.Input((4, 4, 1), name="x")
        y = L.SeparableConv2D(2, 3, padding="same")(x)
        y = L.Add()([L.Conv2D(2, (1, 2), padding="same", kernel_regularizer="l2")(y), y])
        y = L.MultiHeadAttention(1, 2)(*[L.Reshape((4, 8))(y)] * 2)
        y = L.RNN([L.LSTMCell(1), L.GRUCell(2)])(L.TimeDistributed(L.Dense(2, kernel_constraint="max_norm"))(y))
        return lh.Model(x, y, seed=3, name="image")

    return {"dense": dense, "graph": graph, "image": image}


def trained(model: Any) -> Any:
    """The model after a step of training."""
    schedule = lh.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9)
    model.compile(lh.optimizers.Adam(schedule), "mse")
    x = [np.ones((2, *x.shape[1:]), "float32") for x in model.inputs]
    y = [np.ones((2, *y.shape[1:]), "float32") for y in model.outputs]
    model.train_on_batch(x if len(x) > 1 else x[0], y if len(y) > 1 else y[0])
    return model


OFTEN = ("dense",) * 8 + ("graph", "image")
"""Models by how often their files are changed: the small one takes a fraction of the time."""


class Bases(NamedTuple):
    """What inputs are made from. files: by (model, format). configs: by model, and old ones."""

    files: dict[tuple[str, str], bytes]
    configs: dict[str, Any]


def bases(folder: Path) -> Bases:
    """Files of every kind, and configs."""
    files: dict[tuple[str, str], bytes] = {}
    configs: dict[str, Any] = {}
    for name, make in models().items():
        model = trained(make())
        for form, write in {
            "m.keras": model.save, "m.h5": model.save, "w.weights.h5": model.save_weights, "w.h5": model.save_weights,
            "w.safetensors": model.save_weights,
        }.items():  # fmt: skip
            write(folder / form)
            files[name, form] = (folder / form).read_bytes()
        # The library's newest layout, in which LayerHub leaves files to it.
        files[name, "late.weights.h5"] = rebuilt(files[name, "w.weights.h5"], libver="latest")
        files[name, "packed.weights.h5"] = rebuilt(files[name, "w.weights.h5"], packed=True)
        with zipfile.ZipFile(io.BytesIO(files[name, "m.keras"])) as archive:
            configs[name] = json.loads(archive.read("config.json"))
    configs["Keras 2"] = OLD
    return Bases(files, configs)


OLD = {
    "class_name": "Sequential", "keras_version": "2.2.4", "backend": "tensorflow",
    "config": {"name": "old", "layers": [
        {"class_name": "LSTM", "config": {
            "name": "lstm_1", "batch_input_shape": [None, 3, 2], "units": 2, "recurrent_activation": "hard_sigmoid",
            "return_sequences": True}},
        {"class_name": "GRU", "config": {"name": "gru_1", "units": 2, "implementation": 1}},
        {"class_name": "Dense", "config": {"name": "dense_1", "units": 2, "activation": "softmax"}},
    ]},
}  # fmt: skip


def rebuilt(content: bytes, packed: bool = False, **options: Any) -> bytes:
    """An HDF5 file in another of the layouts that the library writes."""
    h5py = __import__("h5py")
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(content), "r") as source, h5py.File(buffer, "w", **options) as target:

        def copied(path: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset):
                how = {"compression": "gzip", "shuffle": True, "fletcher32": True} if packed and found.shape else {}
                target.create_dataset(path, data=found[()], **how)
            target.require_group(path) if isinstance(found, h5py.Group) else None
            target[path].attrs.update(found.attrs)

        source.visititems(copied)
    return buffer.getvalue()


# How bytes are changed

ODD = (
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    65535,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**63,
    2**64 - 1,
)


def damaged(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Bytes with a few changes. other: what may be spliced in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if data:
            rng.choice(CHANGES)(data, other, rng)
    return bytes(data)


def _place(data: bytearray, rng: random.Random) -> int:
    """A place in the data: mostly one where something stands, as files hold many zeros."""
    for _ in range(8):
        place = rng.randrange(len(data))
        if data[place]:
            return place
    return rng.randrange(len(data))


def _bit(data: bytearray, other: bytes, rng: random.Random) -> None:
    data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, other: bytes, rng: random.Random) -> None:
    data[_place(data, rng)] = rng.choice((0, 1, 255, 127, 128, rng.randrange(256)))


def _field(data: bytearray, other: bytes, rng: random.Random) -> None:
    width = rng.choice((1, 2, 4, 8))
    place = _place(data, rng)
    place -= rng.choice((0, 0, place % width))
    value = rng.choice((*ODD, len(data), rng.randrange(len(data)), rng.getrandbits(64)))
    data[place : place + width] = (value % 256**width).to_bytes(width, "little")


def _nudge(data: bytearray, other: bytes, rng: random.Random) -> None:
    place = _place(data, rng)
    data[place] = (data[place] + rng.choice((-1, 1, -8, 8, 16))) % 256


def _cut(data: bytearray, other: bytes, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _drop(data: bytearray, other: bytes, rng: random.Random) -> None:
    begin = rng.randrange(len(data))
    del data[begin : begin + rng.choice((1, 2, 4, 8, 100, 1000))]


def _again(data: bytearray, other: bytes, rng: random.Random) -> None:
    begin, length, to = rng.randrange(len(data)), rng.choice((1, 4, 8, 64, 512)), rng.randrange(len(data))
    piece = data[begin : begin + length]
    data[to : to + rng.choice((0, length))] = piece


def _splice(data: bytearray, other: bytes, rng: random.Random) -> None:
    begin, length = rng.randrange(len(other)), rng.choice((8, 64, 512, 4096))
    to = rng.choice((begin, rng.randrange(len(data))))
    data[to : to + length] = other[begin : begin + length]


CHANGES = (_bit, _bit, _byte, _byte, _field, _field, _field, _nudge, _nudge, _cut, _drop, _again, _splice)


# How configs are changed


def parts(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a tree."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            waiting.append(node[key])
    return found


def odd_values(rng: random.Random) -> Any:
    """A value that a config would not have."""
    deep: Any = 0
    for _ in range(rng.choice((5, 50, 400))):
        deep = [deep] if rng.random() < 0.5 else {"config": deep}
    layer = {"class_name": rng.choice(dir(lh.layers)), "config": {}}
    return rng.choice((
        None, True, False, 0, 1, -1, 2, 3, 10**9, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e300, float("inf"),
        float("nan"), "", "x", "relu", "Dense", "Sequential", "Functional", "x" * 3000, "float16", "int32", "\x00",
        "\ud800", [], {}, [[]], [None], [1, 2], [-1], [0], [10**9] * 3, [1] * 40, [None] * 40, {"x": 1},
        {"class_name": "Dense"}, {"config": {}}, {"class_name": "Dense", "config": {"units": 10**12}},
        {"class_name": "__numpy__", "config": {}}, {"class_name": "function", "config": "x"},
        {"class_name": "__keras_tensor__", "config": {}}, ["a", 0, 0], ["a", 10**30, 0], ["a", -1, 0, {}],
        [["a", 0, 0]], deep, layer,
    ))  # fmt: skip


def twisted(tree: Any, rng: random.Random) -> Any:
    """A config with a few changes."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        known = parts(tree)
        if not known:
            return tree
        node, key = rng.choice(known)
        other, at = rng.choice(known)
        act = rng.randrange(9)
        if act == 0:
            del node[key]
        elif act == 1:
            node[key] = json.loads(json.dumps(other[at], default=str))
        elif act == 2 and isinstance(node, dict):
            node[str(at)] = node.pop(key)
        elif act == 3 and isinstance(node, list):
            node.insert(key, json.loads(json.dumps(rng.choice((node[key], other[at])))))
        elif act == 4:
            node[key], other[at] = json.loads(json.dumps(other[at])), json.loads(json.dumps(node[key]))
        elif act == 5 and isinstance(node[key], (int, float)):
            node[key] = node[key] * rng.choice((-1, 2, 1000, 10**6)) + rng.choice((-1, 0, 1, 0.5))
        elif act == 6 and isinstance(node[key], str):
            node[key] = rng.choice((node[key][:-1], node[key] + "1", node[key].swapcase(), str(other[at])[:50]))
        else:
            node[key] = odd_values(rng)
    return tree


# The inputs


class Input(NamedTuple):
    """One input. form: its kind; model: what its weights are given to. content: of the file, or the text."""

    form: str
    model: str
    content: bytes


FORMS = (
    "m.keras", "m.keras: config", "m.keras: metadata", "m.keras: weights", "m.h5", "m.h5", "m.h5: config",
    "w.weights.h5", "w.weights.h5", "packed.weights.h5", "w.h5", "w.safetensors", "w.safetensors: header", "json",
    "json", "json: bytes", "yaml", "yaml: bytes",
)  # fmt: skip
"""The kinds of inputs, in turn."""


RARELY, EVERY = "late.weights.h5", 2500
"""What another process has to read first, and how many inputs there are for each of these."""


def form_of(number: int) -> str:
    """The kind of an input."""
    return RARELY if number % EVERY == 0 else FORMS[number % len(FORMS)]


def made(known: Bases, seed: int, number: int) -> Input:
    """Input ``number``."""
    rng = random.Random(f"{seed}:{number}")
    form = form_of(number)
    name = rng.choice(OFTEN)
    kind, _, part = form.partition(": ")
    if kind in ("json", "yaml"):
        return Input(form, name, _text(known.configs[rng.choice(sorted(known.configs))], kind, part, rng))
    content = known.files[name, kind]
    other = known.files[rng.choice(sorted(models())), rng.choice(sorted({form for _, form in known.files}))]
    if not part:
        return Input(form, name, damaged(content, other, rng))
    if kind == "m.keras":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        member = {"config": "config.json", "metadata": "metadata.json", "weights": "model.weights.h5"}[part]
        if part == "weights":
            members[member] = damaged(members[member], other, rng)
        else:
            members[member] = json.dumps(twisted(json.loads(members[member]), rng)).encode()
        buffer = io.BytesIO()
        way = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, data in members.items():
                archive.writestr(zipfile.ZipInfo(member), data, way)  # without a date
        return Input(form, name, buffer.getvalue())
    if kind == "m.h5":
        return Input(form, name, _attributes_twisted(content, rng))
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(twisted(json.loads(content[8 : 8 + length]), rng)).encode()
    return Input(form, name, len(header).to_bytes(8, "little") + header + content[8 + length :])


def _text(config: Any, kind: str, part: str, rng: random.Random) -> bytes:
    if kind == "yaml":
        from layerhub.saving import text

        if not part:
            try:
                return text.to_yaml(twisted(config, rng)).encode("utf-8", "surrogatepass")
            except Exception:  # the odd value is none that YAML can write
                return b"{}"
        return damaged(text.to_yaml(config).encode(), ALIASES, rng)
    return json.dumps(twisted(config, rng)).encode() if not part else damaged(json.dumps(config).encode(), ALIASES, rng)


ALIASES = 9 * (
    b"a: &a [1, 2]\nb: &b [*a, *a]\nc: !!python/object:os.system x\n? [x]\n: y\n<<: *b\n--- {}\n!!set {a, b}\n"
    b"1:30\n0x\n.inf\n"
)
"""What is spliced into texts."""


def _attributes_twisted(content: bytes, rng: random.Random) -> bytes:
    """An HDF5 file of Keras 2 with one of its attributes changed."""
    h5py = __import__("h5py")
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as opened:
        groups = [opened]
        opened.visititems(lambda _, found: groups.append(found))
        group = rng.choice([opened, *(group for group in groups if len(group.attrs))])
        name = rng.choice(sorted(group.attrs))
        value = group.attrs[name]
        if isinstance(value, str) and value.startswith("{"):
            changed: Any = json.dumps(twisted(json.loads(value), rng))
        else:
            names = ["a", b"\xff", *np.ravel(value)]
            rng.shuffle(names)
            changed = rng.choice(
                (
                    3,
                    1.5,
                    b"\xff\xfe",
                    "1",
                    "9",
                    "theano",
                    np.array(names[:-1], "S9"),
                    np.zeros((2, 2)),
                    h5py.Empty("f4"),
                )
            )
        group.attrs[name] = changed
    return buffer.getvalue()


# What comes out


def run(given: Input, folder: Path, targets: dict[str, Any]) -> str:
    """Read an input; "read", or the name of the LayerHubError. Raises whatever else comes out."""
    kind = given.form.partition(": ")[0]
    if kind in ("json", "yaml"):
        read = lh.models.model_from_json if kind == "json" else lh.models.model_from_yaml
        return _tried(lambda: read(given.content.decode("utf-8", "surrogateescape")))
    path = folder / f"input-{kind}"
    path.write_bytes(given.content)
    if kind.startswith("m."):
        outcome = _tried(lambda: lh.models.load_model(path))
    else:
        model = targets[given.model]
        before = model.get_weights()
        outcome = _tried(lambda: model.load_weights(path))
        if outcome == "read":
            model.set_weights(before)
        elif not all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)):
            raise AssertionError("a file that was refused changed the model")
    if sorted(folder.iterdir()) != [path] or path.read_bytes() != given.content:
        raise AssertionError("reading a file changed the disk")
    path.unlink()
    return outcome


def _tried(act: Callable[[], Any]) -> str:
    try:
        act()
    except LayerHubError as problem:
        return type(problem).__name__
    return "read"


def work(seed: int, numbers: Any, current: Any, answers: Any) -> None:
    """Read inputs, and say what came of each: (number, form, outcome, seconds, what went wrong)."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        known = bases(Path(folder))
        targets = {name: make() for name, make in models().items()}
        for path in Path(folder).iterdir():
            path.unlink()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        answers.send("ready")
        for number in numbers:
            current.value = number
            begin, wrong = time.perf_counter(), ""
            given = made(known, seed, number)
            try:
                outcome = run(given, Path(folder), targets)
            except BaseException as problem:
                outcome = f"{type(problem).__name__}"
                wrong = "".join(traceback.format_exception(problem)[-4:])[-1500:]
                for path in Path(folder).iterdir():
                    path.unlink()
            answers.send((number, given.form, outcome, time.perf_counter() - begin, wrong))
    answers.send(None)


class Found(NamedTuple):
    """What came out. outcomes: how often each, by form. wrong: (number, form, what). slowest: (seconds, number)."""

    outcomes: Counter[tuple[str, str]]
    wrong: list[tuple[int, str, str]]
    slowest: tuple[float, int]


def watched(seed: int, begin: int, count: int, say: Callable[[str], None] = lambda text: None) -> Found:
    """Have inputs from ``begin`` to ``count`` read by a process, and by another one when that dies or hangs."""
    context = multiprocessing.get_context("spawn")
    outcomes: Counter[tuple[str, str]] = Counter()
    wrong: list[tuple[int, str, str]] = []
    slowest = (0.0, 0)
    while begin < count:
        receiver, sender = context.Pipe(duplex=False)
        current = context.Value("q", begin, lock=False)
        process = context.Process(target=work, args=(seed, range(begin, count), current, sender), daemon=True)
        process.start()
        sender.close()
        if not receiver.poll(60) or receiver.recv() != "ready":
            raise RuntimeError("the process that reads inputs does not begin")
        ended = ""
        while not ended:
            try:
                answer = receiver.recv() if receiver.poll(PATIENCE) else "hangs"
            except EOFError:
                process.join()
                answer = f"dies ({process.exitcode})"
            if answer is None:
                begin, ended = count, "done"
            elif isinstance(answer, str):
                number = current.value
                ended, begin = answer, number + 1
                wrong.append((number, form_of(number), answer))
                outcomes[form_of(number), answer] += 1
                say(f"input {number} ({form_of(number)}) {answer}")
            else:
                number, form, outcome, seconds, what = answer
                outcomes[form, outcome] += 1
                slowest = max(slowest, (seconds, number))
                if what:
                    wrong.append((number, form, what))
                    say(f"input {number} ({form}): {what.splitlines()[-1]}")
                if (number + 1) % 1000 == 0:
                    say(f"{number + 1} inputs, {len(wrong)} went wrong")
        process.kill()
        process.join()
    return Found(outcomes, wrong, slowest)


def shared(seed: int, count: int, processes: int, say: Callable[[str], None]) -> Found:
    """``watched``, with the inputs shared out to several processes."""
    places = [count * k // processes for k in range(processes + 1)]
    with ThreadPoolExecutor(processes) as pool:
        parts = list(pool.map(lambda k: watched(seed, places[k], places[k + 1], say), range(processes)))
    outcomes: Counter[tuple[str, str]] = sum((part.outcomes for part in parts), Counter())
    wrong = [problem for part in parts for problem in part.wrong]
    return Found(outcomes, wrong, max(part.slowest for part in parts))


def page(found: Found, seed: int, count: int, processes: int, seconds: float) -> str:
    """The report, as a page of the documentation."""
    h5py, safetensors, yaml = (__import__(name) for name in ("h5py", "safetensors", "yaml"))
    forms = sorted({form for form, _ in found.outcomes})
    versions = f"h5py {h5py.__version__} (HDF5 {h5py.version.hdf5_version}), safetensors {safetensors.__version__}"
    lines = [
        "# Fuzzing of what reads files",
        "",
        "`tools/fuzz.py` changes files and configs, and reads them. Nothing may come out but success or a",
        "LayerHubError: no other exception, no process that dies, no model that a file changed which was refused, no",
        f"change on the disk; and nothing may take more than {PATIENCE:.0f} s or {MEMORY >> 20} MiB. It is written by",
        "",
        "```sh",
        f"python tools/fuzz.py --inputs {count} --seed {seed} --processes {processes} --write docs/fuzzing.md",
        "```",
        "",
        f"{count} inputs took {seconds / 60:.0f} minutes; the slowest took {found.slowest[0]:.1f} s.",
        f"**{len(found.wrong)} went wrong.** {versions}, PyYAML {yaml.__version__}.",
        "",
        "| input | read | refused | went wrong |",
        "|---|---|---|---|",
    ]
    bad = Counter(form for _, form, _ in found.wrong)
    for form in forms:
        total = sum(n for (of, _), n in found.outcomes.items() if of == form)
        read = found.outcomes[form, "read"]
        lines.append(f"| {form} | {read} | {total - read - bad[form]} | {bad[form]} |")
    lines += ["", "A name after a colon is the part that was changed, checksums and lengths being right."]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command; 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="how many read at a time")
    parser.add_argument("--write", type=Path, help="the page to write the report to")
    parser.add_argument("--only", type=int, help="read this input alone, in this process")
    parser.add_argument("--keep", type=Path, help="a folder to write the input of --only to")
    asked = parser.parse_args()
    if asked.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            known = bases(Path(folder))
            for path in Path(folder).iterdir():
                path.unlink()
            given = made(known, asked.seed, asked.only)
            if asked.keep:
                (asked.keep / f"{asked.only}-{given.form.replace(': ', '-')}").write_bytes(given.content)
            print(given.form, run(given, Path(folder), {name: make() for name, make in models().items()}))
        return 0
    begin = time.perf_counter()
    found = shared(asked.seed, asked.inputs, asked.processes, lambda text: print(text, file=sys.stderr, flush=True))
    told: set[str] = set()
    for number, form, what in found.wrong:
        if what.splitlines()[-1][:80] not in told:
            told.add(what.splitlines()[-1][:80])
            print(f"input {number} ({form}):\n{what}\n")
    text = page(found, asked.seed, asked.inputs, asked.processes, time.perf_counter() - begin)
    print(text)
    if asked.write:
        asked.write.write_text(text, encoding="utf-8")
    return bool(found.wrong)


if __name__ == "__main__":
    sys.exit(main())
