"""Is a review kind? An embedding and an LSTM read sentences of different lengths; a mask hides the padding.

    python examples/text.py [--backend torch] [--sentences 3000] [--epochs 6]

The sentences are made here. Each judges several things, and "not" turns the next judgement round: so it matters in
which order the words stand, and counting kind and unkind words is often wrong.
"""

import argparse

import numpy as np

import layerhub as lh

KIND = "good fine great lovely superb".split()
UNKIND = "bad poor awful dull dreadful".split()
THINGS = "plot cast music ending pace sound story humour".split()
WORDS = ["", *KIND, *UNKIND, *THINGS, "the", "was", "not", "and"]
"""By number; 0 is padding."""
NUMBER = {word: k for k, word in enumerate(WORDS)}


def sentence(rng):
    """(words, whether the review is kind): an odd number of judgements, most of which are on one side."""
    words, score = [], 0
    for k in range(rng.choice([1, 3, 5])):
        kind, turned = rng.integers(2), rng.random() < 0.4
        judgement = rng.choice(KIND if kind else UNKIND)
        words += ["and"] * (k > 0) + ["the", rng.choice(THINGS), "was", *["not"] * turned, judgement]
        score += 1 if kind != turned else -1
    return words, score > 0


def reviews(count, seed):
    """(sentences, numbers of their words, padded behind to a common length, labels)"""
    rng = np.random.default_rng(seed)
    sentences, labels = zip(*(sentence(rng) for _ in range(count)), strict=True)
    x = lh.utils.pad_sequences([[NUMBER[word] for word in words] for words in sentences], padding="post")
    return sentences, x, np.array(labels, dtype="float32")


def by_counting(sentences, labels):
    """The accuracy of counting kind and unkind words; where they are as many, half of the guesses are right."""
    scores = np.array([sum((word in KIND) - (word in UNKIND) for word in words) for words in sentences])
    right = np.where(scores == 0, 0.5, (scores > 0) == (labels > 0.5))
    return float(right.mean())


def reader(backend):
    """The model. ``mask_zero`` has the LSTM step over the padding."""
    return lh.Sequential(
        [
            lh.Input((None,), dtype="int32"),
            lh.layers.Embedding(len(WORDS), 12, mask_zero=True),
            lh.layers.LSTM(24),
            lh.layers.Dense(1, activation="sigmoid"),
        ],
        backend=backend,
        name="reader",
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--sentences", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args(arguments)

    lh.set_random_seed(7)
    _, x, y = reviews(options.sentences, seed=1)
    held_sentences, held_x, held_y = reviews(500, seed=2)
    model = reader(options.backend)
    model.compile(lh.optimizers.Adam(0.01), "binary_crossentropy", ["accuracy"])
    model.fit(x, y, batch_size=64, epochs=options.epochs, validation_data=(held_x, held_y), verbose=2)

    _, accuracy = model.evaluate(held_x, held_y, verbose=0)
    counting = by_counting(held_sentences, held_y)
    # More padding changes nothing: it is masked.
    longer = np.pad(held_x, ((0, 0), (0, 7)))
    change = float(np.abs(model.predict(longer, verbose=0) - model.predict(held_x, verbose=0)).max())

    print(f"\nHeld back: {accuracy:.1%} right; counting kind and unkind words gets {counting:.1%}")
    print(f"Seven more columns of padding change answers by at most {change:.0e}")
    for text in (
        "the plot was not bad",
        "the music was not superb",
        "the cast was good and the pace was not good and the plot was poor",
    ):
        answer = float(model.predict(np.array([[NUMBER[word] for word in text.split()]]), verbose=0)[0, 0])
        print(f"  {answer:5.1%} kind: {text}")
    return {"accuracy": accuracy, "counting": counting, "padding": change}


if __name__ == "__main__":
    main()
