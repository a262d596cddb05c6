"""The portable random stream: Philox4x32-10, counter-based, the same on every backend.

The key comes from (seed, place): the place is where a draw belongs, such as ``2/kernel`` for a weight or ``3`` for the
third layer's dropout. The counter is (block of four elements, call, step, part). So any element can be drawn by itself,
in any order, anywhere; nothing is consumed.

Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011, doi:10.1145/2063384.2063405.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
ROUNDS = 10


@dataclass(frozen=True)
class Stream:
    """A place to draw from.

    key: two 32-bit words. step: the training step, an int or the backend's own integer scalar.
    call: which use of the layer within the step. part: which of several draws of one call.
    """

    key: tuple[int, int]
    step: Any = 0
    call: int = 0
    part: int = 0

    @classmethod
    def at(cls, seed: int, place: str) -> Stream:
        """The stream of a place under a seed."""
        digest = hashlib.blake2b(f"{seed}/{place}".encode(), digest_size=8).digest()
        return cls((int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")))

    def child(self, part: int) -> Stream:
        """Another, independent draw of the same call; up to 64 of them, each with draws of its own in turn."""
        return replace(self, part=self.part * 64 + part)

    def during(self, step: Any) -> Stream:
        """The same place at another step."""
        return Stream(self.key, step, self.call, self.part)


def random_bits(xp: Any, stream: Stream, shape: tuple[Any, ...]) -> Any:
    """Uniform integers in [0, 2**32), int64, one for each element of ``shape``, in C order.

    64-bit products wrap around; shifting and masking then recover both halves exactly, also from a negative int64.
    """
    count = math.prod(shape)
    blocks = xp.arange((count + 3) // 4, dtype=xp.int64)
    zero = xp.zeros_like(blocks)
    words = [xp.bitwise_and(blocks, zero + WORD), zero + stream.call, zero + stream.step, zero + stream.part]
    low_word, shift = zero + WORD, zero + 32
    keys = list(stream.key)
    for _ in range(ROUNDS):
        first, second = (words[0] * MULTIPLIERS[0], words[2] * MULTIPLIERS[1])
        high0 = xp.bitwise_and(xp.bitwise_right_shift(first, shift), low_word)
        high1 = xp.bitwise_and(xp.bitwise_right_shift(second, shift), low_word)
        words = [
            xp.bitwise_xor(xp.bitwise_xor(high1, words[1]), zero + keys[0]),
            xp.bitwise_and(second, low_word),
            xp.bitwise_xor(xp.bitwise_xor(high0, words[3]), zero + keys[1]),
            xp.bitwise_and(first, low_word),
        ]
        keys = [(key + weyl) & WORD for key, weyl in zip(keys, WEYL, strict=True)]
    return xp.reshape(xp.reshape(xp.stack(words, axis=-1), (-1,))[:count], shape)
