"""A transformer block, and what it attends to: it learns to say a sequence backwards.

    python examples/transformer.py [--backend torch] [--steps 400]

Each output must come from one place of the input, another one for each: nothing but attention over positions does that
in one layer. The block is a function of layers that are there; positions are a layer of its own, defined here once,
which runs and learns on every backend.
"""

import argparse

import numpy as np

import layerhub as lh
from layerhub.layers import In, Layer, Out, Weight, passes

LENGTH, LETTERS, WIDTH = 10, 12, 32


class Positions(Layer):
    """Adds a vector of its own to each place of a sequence: y[t] = x[t] + table[t]."""

    x = In("n t d")
    table = Weight("t d", init="glorot_uniform")
    y = Out("n t d")
    mask = passes

    def define(self, xp, x, table):
        return x + table


def block(x, heads=4):
    """Attention, then two dense layers for each place, each beside a way around and with normalization before."""
    y = lh.layers.LayerNormalization()(x)
    x = lh.layers.Add()([x, lh.layers.MultiHeadAttention(heads, WIDTH // heads)(y, y)])
    y = lh.layers.Dense(2 * WIDTH, activation="gelu")(lh.layers.LayerNormalization()(x))
    return lh.layers.Add()([x, lh.layers.Dense(WIDTH)(y)])


def reverser(backend):
    """The model: at each place, how likely each letter is."""
    x = lh.Input((LENGTH,), dtype="int32", name="letters")
    y = block(Positions()(lh.layers.Embedding(LETTERS, WIDTH)(x)))
    y = lh.layers.Dense(LETTERS)(lh.layers.LayerNormalization()(y))
    return lh.Model(x, y, backend=backend, name="reverser")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args(arguments)

    lh.set_random_seed(7)
    rng = np.random.default_rng(1)
    x = rng.integers(LETTERS, size=(options.steps * 32, LENGTH))
    held = rng.integers(LETTERS, size=(500, LENGTH))
    model = reverser(options.backend)
    loss = lh.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(lh.optimizers.AdamW(0.005), loss, ["accuracy"])
    model.fit(x, x[:, ::-1], batch_size=32, epochs=1, verbose=2)

    _, accuracy = model.evaluate(held, held[:, ::-1], verbose=0)
    said = model.predict(held[:1], verbose=0).argmax(axis=-1)[0]
    print(f"\nLetters right, on sequences that were not trained on: {accuracy:.1%}; by chance: {1 / LETTERS:.1%}")
    alphabet = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    print(f"  {''.join(alphabet[held[0]])} -> {''.join(alphabet[said])}")
    return {"accuracy": accuracy, "chance": 1 / LETTERS}


if __name__ == "__main__":
    main()
