"""What comes next? Causal convolutions, ever further apart, look back over a series and say its next value.

    python examples/forecast.py [--backend torch] [--epochs 8]

The series is made here: two seasons of which the second one's strength drifts, and noise that remembers. A forecast is
made at every step at once; since the convolutions are causal, that for a step sees nothing after it, which is checked.
"""

import argparse

import numpy as np

import layerhub as lh

WINDOW, SEASON = 96, 24
DILATIONS = (1, 2, 4, 8)


def series(length, seed):
    """One series: (length,), of about unit size."""
    rng = np.random.default_rng(seed)
    t = np.arange(length)
    noise = np.zeros(length)
    for k in range(1, length):
        noise[k] = 0.7 * noise[k - 1] + 0.15 * rng.normal()
    drift = 1 + 0.5 * np.sin(2 * np.pi * t / 700)
    return (np.sin(2 * np.pi * t / SEASON) + 0.6 * drift * np.sin(2 * np.pi * t / 8 + 1) + noise).astype("float32")


def windows(values, step):
    """(x, y): pieces of the series, and the same pieces one step later; (windows, WINDOW, 1) each."""
    starts = np.arange(0, len(values) - WINDOW - 1, step)
    pieces = values[starts[:, None] + np.arange(WINDOW + 1)][..., None]
    return pieces[:, :-1], pieces[:, 1:]


def forecaster(backend):
    """The model: it sees 2 * sum(DILATIONS) + 1 = 31 steps, more than a season."""
    x = lh.Input((WINDOW, 1), name="past")
    y = x
    for dilation in DILATIONS:
        convolution = lh.layers.Conv1D(
            16, 3, padding="causal", dilation_rate=dilation, activation="relu", name=f"back_{dilation}"
        )
        y = lh.layers.Concatenate()([y, convolution(y)])
    return lh.Model(x, lh.layers.Conv1D(1, 1, name="next")(y), backend=backend, name="forecaster")


def sees_ahead(model, x):
    """The largest change of forecasts before a step, when what comes from that step on changes; 0 for causal models."""
    half = WINDOW // 2
    other = np.concatenate([x[:, :half], x[:, half:][:, ::-1] + 1], axis=1)
    return float(np.abs(model.predict(other, verbose=0) - model.predict(x, verbose=0))[:, :half].max())


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args(arguments)

    lh.set_random_seed(7)
    values = series(6000, seed=3)
    x, y = windows(values[:4800], step=6)
    held_x, held_y = windows(values[4800:], step=24)  # later than all that was trained on
    model = forecaster(options.backend)
    schedule = lh.optimizers.schedules.CosineDecay(0.01, options.epochs * -(-len(x) // 32))
    model.compile(lh.optimizers.Adam(schedule), "mse", ["mae"])
    model.fit(x, y, batch_size=32, epochs=options.epochs, validation_data=(held_x, held_y), verbose=2)

    # The first steps of a window have no past to look at.
    late = slice(SEASON, None)
    forecast = model.predict(held_x, verbose=0)[:, late]
    error = float(np.abs(forecast - held_y[:, late]).mean())
    same = float(np.abs(held_x[:, late] - held_y[:, late]).mean())
    season = float(np.abs(held_y[:, late] - held_y[:, : WINDOW - SEASON]).mean())
    ahead = sees_ahead(model, held_x)
    print(f"\nMean absolute error of the next value, on the last fifth of the series: {error:.3f}")
    print(f"  as the last value: {same:.3f}; as a season before: {season:.3f}")
    print("  no forecast could do better than the new noise of each step, 0.120 on average")
    print(f"Change of forecasts when only what comes after them changes: {ahead:.0e}")
    return {"error": error, "same": same, "season": season, "ahead": ahead}


if __name__ == "__main__":
    main()
