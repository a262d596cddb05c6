"""Models that are hard to print or to draw, each for a reason."""

import layerhub as lh

L = lh.layers


def chain():
    layers = [
        lh.Input((12, 12, 1)),
        L.Conv2D(4, 3, activation="relu", name="see"),
        L.BatchNormalization(name="norm"),
        L.Flatten(name="flat"),
        L.Dense(3, activation="softmax", name="judge"),
    ]
    return lh.Sequential(layers, name="chain")


def two_and_two():
    """Branches of different lengths, two inputs and two outputs."""
    user, words = lh.Input((8,), name="user"), lh.Input((None,), dtype="int32", name="words")
    read = L.LSTM(6, name="read")(L.Embedding(50, 4, name="embed")(words))
    joined = L.Concatenate(name="joined")([L.Dense(5, name="wide")(user), read])
    deep = L.Dense(7, name="deep")(joined)
    again = L.Add(name="again")([L.Dense(7, name="deeper")(deep), deep])
    outputs = [L.Dense(1, name="click")(deep), L.Dense(5, name="stars")(again)]
    return lh.Model([user, words], outputs, name="two_and_two")


def siamese():
    """A nested model and a layer that are used twice, side by side."""
    x = lh.Input((6,), name="x")
    encoder = lh.Model(x, L.Dense(4, name="code")(L.Dense(5, name="hidden")(x)), name="encoder")
    left, right = lh.Input((6,), name="left"), lh.Input((6,), name="right")
    shared = L.Dense(3, name="shared")
    apart = L.Subtract(name="apart")([shared(encoder(left)), shared(encoder(right))])
    return lh.Model([left, right], apart, name="siamese")


def repeated():
    """A layer whose second use depends on its first one."""
    x, shared = lh.Input((4,), name="x"), L.Dense(4, name="shared")
    return lh.Model(x, shared(L.Dense(4, name="between")(shared(x))), name="repeated")


def nested():
    """A model in a model in a model, with several inputs and outputs, one of which is an output of the whole."""
    a, b = lh.Input((6,), name="a"), lh.Input((3,), name="b")
    thin = lh.Sequential([lh.Input((5,)), L.Dense(2, name="thin"), L.Dense(5, name="wide")], name="bottleneck")
    h, g = L.Dense(5, name="from_a")(a), L.Dense(5, name="from_b")(b)
    mixer = lh.Model([a, b], [L.Add(name="mixed")([h, g, thin(h)]), g], name="mixer")
    x, z = lh.Input((9,), name="x"), lh.Input((3,), name="z")
    mixed, gated = mixer([L.Dense(6, name="first")(x), z])
    return lh.Model([x, z], [L.Dense(1, name="last")(mixed), gated], name="outer")


def fan():
    """A nested model whose input goes to several sides at once, below its name."""
    x = lh.Input((4,), name="x")
    inner = lh.Model(
        x, L.Add(name="sum")([L.Dense(4, name=f"way_{k}")(x) for k in range(11)]), name="long_" * 20 + "name"
    )
    z = lh.Input((4,), name="z")
    return lh.Model(z, inner(z), name="fan")


def residual(blocks=15):
    """60 layers, with lines that pass others by."""
    x = lh.Input((8, 8, 2), name="x")
    y = L.Conv2D(4, 3, padding="same", name="stem")(x)
    for k in range(blocks):
        z = L.Conv2D(4, 3, padding="same", name=f"conv_{k}")(y)
        z = L.Activation("relu", name=f"relu_{k}")(L.BatchNormalization(name=f"norm_{k}")(z))
        y = L.Add(name=f"add_{k}")([y, z])
    return lh.Model(x, y, name="residual")


def dense(blocks=8):
    """Each convolution sees all that came before it."""
    seen = [lh.Input((8, 8, 4), name="x")]
    for k in range(blocks):
        joined = L.Concatenate(name=f"join_{k}")(list(seen)) if k else seen[0]
        seen.append(L.Conv2D(4, 3, padding="same", name=f"conv_{k}")(joined))
    return lh.Model(seen[0], seen[-1], name="dense")


class Block(lh.Model):
    """A model by its ``call``, with a layer that it never uses."""

    def __init__(self, **options):
        super().__init__(**options)
        self.wide, self.spare, self.thin = (L.Dense(4, name=name) for name in ("wide", "spare", "thin"))

    def call(self, x):
        return self.thin(self.wide(x)) * 2.0 + x


def computed():
    """Operations between layers, and a model that is a class of its own."""
    x, z = lh.Input((4,), name="x"), lh.Input((4,), name="z")
    return lh.Model([x, z], {"sum": Block(name="block")(x) + z, "cut": z[:, 1:3]}, name="computed")


def tagger():
    """Wrappers, one tensor that goes into a layer three times, and a line around it."""
    x = lh.Input((None,), dtype="int32", name="tokens")
    read = L.Bidirectional(L.LSTM(3, return_sequences=True), name="read")(L.Embedding(50, 6, name="embed")(x))
    seen = L.Add(name="add")([read, L.MultiHeadAttention(2, 3, name="attend")(read, read, read)])
    return lh.Model(x, L.TimeDistributed(L.Dense(4), name="tags")(seen), name="tagger")


NAMES = [
    '<in> & "out"',
    "日本語 ✓ 🚀 ünïcødé",
    "turned \u202e round",
    "line\nbreak",
    "long_" * 30 + "name",
    "$\\frac{1}{2}$ [b]",
]


def strange():
    """Names that would break a table, a picture or a page."""
    y = lh.Input((4,), name=NAMES[0])
    x = y
    for name in NAMES[1:]:
        y = L.Dense(4, name=name)(y)
    return lh.Model(x, y, name="<script>&]]>")


ALL = (chain, two_and_two, siamese, repeated, nested, fan, residual, dense, computed, tagger, strange)
