"""Cases that are made from specs alone: whatever a layer declares is covered without anyone writing it down.

``covering`` has every pair of values that can go together, ``triples`` every three, ``boundaries`` the edges of sizes,
``data_sets`` every set of data, ``invalid`` what must be refused. ``generate.configurations`` has a strategy of
hypothesis over all there is.
"""

from __future__ import annotations

from layerhub_conformance.generate.covering import Coverage, coverage, covering, triples
from layerhub_conformance.generate.edges import boundaries, certifying, data_sets
from layerhub_conformance.generate.frozen import freeze, frozen
from layerhub_conformance.generate.invalid import Invalid, invalid

__all__ = [
    "Coverage",
    "Invalid",
    "boundaries",
    "certifying",
    "coverage",
    "covering",
    "data_sets",
    "freeze",
    "frozen",
    "invalid",
    "triples",
]
