"""Where seeds come from: an explicit one, or else a sequence that starts from entropy or from ``set_random_seed``."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import threading
from typing import Any

_lock = threading.Lock()
_state: dict[str, Any] = {"root": secrets.randbits(63), "count": itertools.count()}


def set_random_seed(seed: int) -> None:
    """Make the seeds of everything made from now on follow from ``seed``, in order of making."""
    with _lock:
        _state["root"], _state["count"] = int(seed), itertools.count()


def next_seed() -> int:
    """The seed of the next model, layer or shuffle."""
    with _lock:
        digest = hashlib.blake2b(f"{_state['root']}/{next(_state['count'])}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
