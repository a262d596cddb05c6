"""A picture in twelve numbers: convolutions make it smaller, transposed convolutions draw it again.

    python examples/autoencoder.py [--backend torch] [--pictures 2000] [--epochs 8]

The pictures are made here: a filled circle or rectangle, anywhere, on 16 x 16 pixels. Principal components, as many,
are what a linear code can do at best.
"""

import argparse

import numpy as np

import layerhub as lh

SIZE, CODE = 16, 12


def pictures(count, seed):
    """(count, SIZE, SIZE, 1), values in [0, 1]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    made = np.zeros((count, SIZE, SIZE, 1), dtype="float32")
    for picture in made:
        high, wide = rng.uniform(4, SIZE - 4, size=2)
        if rng.random() < 0.5:
            inside = np.hypot(rows - high, columns - wide) <= rng.uniform(2.5, 4.5)
        else:
            tall, broad = rng.uniform(1.5, 4.5, size=2)
            inside = (np.abs(rows - high) <= tall) & (np.abs(columns - wide) <= broad)
        picture[inside] = 1.0
    return made


def autoencoder(backend):
    """(the model, its encoder, its decoder); the latter two are models of their own, which share its weights."""
    x = lh.Input((SIZE, SIZE, 1), name="picture")
    y = lh.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    y = lh.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(y)
    encoder = lh.Model(x, lh.layers.Dense(CODE)(lh.layers.Flatten()(y)), backend=backend, name="encoder")
    z = lh.Input((CODE,), name="code")
    y = lh.layers.Reshape((4, 4, 16))(lh.layers.Dense(4 * 4 * 16, activation="relu")(z))
    y = lh.layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu")(y)
    y = lh.layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid")(y)
    decoder = lh.Model(z, y, backend=backend, name="decoder")
    return lh.Model(x, decoder(encoder(x)), backend=backend, name="autoencoder"), encoder, decoder


def by_components(x, held):
    """The mean squared error of principal components, as many as the code has numbers."""
    flat, wanted = x.reshape(len(x), -1), held.reshape(len(held), -1)
    mean = flat.mean(axis=0)
    _, _, directions = np.linalg.svd(flat - mean, full_matrices=False)
    drawn = (wanted - mean) @ directions[:CODE].T @ directions[:CODE] + mean
    return float(np.square(drawn - wanted).mean())


def text(image):
    """A picture in letters, two pixels above each other in each."""
    dark = image[..., 0] > 0.5
    return [
        "".join(" ▀▄█"[top + 2 * bottom] for top, bottom in zip(*pair, strict=True))
        for pair in zip(dark[::2], dark[1::2], strict=True)
    ]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args(arguments)

    lh.set_random_seed(7)
    x, held = pictures(options.pictures, seed=1), pictures(200, seed=2)
    model, encoder, decoder = autoencoder(options.backend)
    model.compile(lh.optimizers.Adam(0.003), "binary_crossentropy", ["mse"])
    model.fit(x, x, batch_size=32, epochs=options.epochs, validation_data=(held, held), verbose=2)

    drawn = decoder.predict(encoder.predict(held, verbose=0), verbose=0)
    error = float(np.square(drawn - held).mean())
    mean = float(np.square(x.mean(axis=0) - held).mean())
    components = by_components(x, held)
    print(f"\nMean squared error on pictures that were not trained on: {error:.4f}")
    print(f"  {CODE} principal components: {components:.4f}; the mean picture: {mean:.4f}\n")
    for name, images in (("held back", held[:4]), ("drawn from twelve numbers", drawn[:4])):
        print(f"{name}:")
        for lines in zip(*map(text, images), strict=True):
            print("  " + "  ".join(lines).rstrip())
    return {"error": error, "components": components, "mean": mean}


if __name__ == "__main__":
    main()
