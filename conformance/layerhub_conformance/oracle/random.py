"""Philox4x32-10, the counter-based random function, on plain integers.

Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3, doi:10.1145/2063384.2063405.
"""

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
KEY_STEPS = 0x9E3779B9, 0xBB67AE85  # the golden ratio and sqrt(3) - 1, in units of 2^-32
WORD = 2**32


def philox4x32(counter, key, rounds=10):
    """Four words (integers in [0, 2^32)) for a counter of four words and a key of two.

    A round, with hi, lo the words of a product of 64 bits:
        (a, b, c, d) -> (hi(M1 c) ^ b ^ k0, lo(M1 c), hi(M0 a) ^ d ^ k1, lo(M0 a))
    and between two rounds each word of the key grows by its constant.
    """
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(rounds):
        high0, low0 = divmod(MULTIPLIERS[0] * a, WORD)
        high1, low1 = divmod(MULTIPLIERS[1] * c, WORD)
        a, b, c, d = high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0
        k0, k1 = (k0 + KEY_STEPS[0]) % WORD, (k1 + KEY_STEPS[1]) % WORD
    return a, b, c, d
