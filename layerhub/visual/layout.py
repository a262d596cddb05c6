"""Layered drawing of a graph: which rank a box stands in, in which order, where, and the way of each line.

Ranks lie one after the other along the *depth*; within a rank, boxes lie side by side along the *breadth*. For a
drawing from top to bottom, depth is y and breadth is x; from left to right it is the other way round. Its sources:

- order and crossings: Sugiyama, Tagawa & Toda 1981, doi:10.1109/TSMC.1981.4308636 (barycentres of neighbours);
- breadth: Brandes & Köpf, Fast and simple horizontal coordinate assignment, 2001, doi:10.1007/3-540-45848-4_3: four
  extreme alignments, averaged. Here a line that passes others by (there is a longer way to where it leads) gives way to
  those, so that the main way through a network is straight.

A line over several ranks passes each by a *stop*, which takes a place among the boxes; so no line crosses a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

Point = tuple[float, float]

SWEEPS = 12
"""How often orders are improved from one end to the other; more brings nothing on the graphs of networks."""


@dataclass(eq=False)
class Box:
    """Something to place. breadth, depth: its size. entries, exits: where lines must end or begin, as distances from
    its middle along the breadth, by port; None lets a line end where it comes straight.

    first, last: it belongs into the first or the last rank. at: the middle, set by ``lay_out``.
    """

    breadth: float
    depth: float
    entries: Sequence[float] | None = None
    exits: Sequence[float] | None = None
    first: bool = False
    last: bool = False
    at: Point = (0.0, 0.0)  # (breadth, depth)


@dataclass(eq=False)
class Line:
    """A connection. exit, entry: the numbers of ports, where the boxes have such. bundle: lines from one box that have
    the same one go together as far as they can.

    points: set by ``lay_out``: (breadth, depth) by pairs, between which the way is straight; else it bends.
    """

    source: Box
    target: Box
    exit: int = 0
    entry: int = 0
    bundle: Any = None
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True)
class Spacing:
    """beside: between boxes of one rank; stops: between lines; between: from rank to rank, at least; ports: between the
    ends of lines at one box; corner: what lines keep away from a box's corners."""

    beside: float = 26
    stops: float = 16
    between: float = 30
    ports: float = 14
    corner: float = 12


class _Stop:
    """Where a line passes a rank."""


_Thing = Box | _Stop


class _Link(NamedTuple):
    """A piece of a line, from one thing to one in the next rank. leave, arrive: as distances from the middles.

    strong: the line does not pass others by.
    """

    source: _Thing
    target: _Thing
    leave: float
    arrive: float
    strong: bool


def lay_out(boxes: Sequence[Box], lines: Sequence[Line], spacing: Spacing = Spacing()) -> tuple[float, float]:
    """Place boxes and lines, which must have no cycle; the (breadth, depth) of the whole, which begins at (0, 0)."""
    if not boxes:
        return 0.0, 0.0
    rank = _ranks(boxes, lines)
    ranks: list[list[_Thing]] = [[] for _ in range(max(rank.values()) + 1)]
    for box in boxes:
        ranks[rank[box]].append(box)
    ways = _ways(lines, rank, ranks)
    links = _links(ways, _passing(boxes, lines, rank))
    ranks = _ordered(ranks, links)
    middles = _breadths(ranks, links, spacing)
    _set_depths(ranks, links, middles, spacing)
    starts, ends = _ports(lines, ways, middles, spacing)
    depths = [_span(things) for things in ranks]
    for line, way in ways.items():
        line.points = _way(line, way, middles, depths, rank[line.source], starts[line], ends[line])
    return _to_origin(boxes, lines)


def _ways(lines: Sequence[Line], rank: dict[Box, int], ranks: list[list[_Thing]]) -> dict[Line, list[_Thing]]:
    """What each line comes by, from its source to its target. Stops are made here, and put into the ranks."""
    ways: dict[Line, list[_Thing]] = {}
    stops: dict[Any, _Stop] = {}
    for line in lines:
        way: list[_Thing] = [line.source]
        for k in range(rank[line.source] + 1, rank[line.target]):
            key = (line.source, line if line.bundle is None else line.bundle, k)
            if key not in stops:
                stops[key] = _Stop()
                ranks[k].append(stops[key])
            way.append(stops[key])
        ways[line] = [*way, line.target]
    return ways


def _links(ways: dict[Line, list[_Thing]], passing: set[Line]) -> list[_Link]:
    """The pieces of all lines; those that lines have in common once."""
    found: dict[Any, _Link] = {}
    for line, way in ways.items():
        leave = line.source.exits[line.exit] if line.source.exits else 0.0
        arrive = line.target.entries[line.entry] if line.target.entries else 0.0
        for a, b in pairwise(way):
            link = _Link(
                a, b, leave if a is line.source else 0.0, arrive if b is line.target else 0.0, line not in passing
            )
            key = (a, b, line if a is line.source and b is line.target else None)
            if key not in found or link.strong:
                found[key] = link
    return list(found.values())


def _passing(boxes: Sequence[Box], lines: Sequence[Line], rank: dict[Box, int]) -> set[Line]:
    """The lines that lead to where a longer way leads, too: those of skip connections."""
    number = {box: k for k, box in enumerate(boxes)}
    after: dict[Box, set[Box]] = {box: set() for box in boxes}
    for line in lines:
        after[line.source].add(line.target)
    beyond = dict.fromkeys(boxes, 0)  # a bit for each box that some way leads to
    for box in sorted(boxes, key=rank.__getitem__, reverse=True):
        for other in after[box]:
            beyond[box] |= beyond[other] | 1 << number[other]
    return {line for line in lines if any(beyond[other] >> number[line.target] & 1 for other in after[line.source])}


# Ranks


def _ranks(boxes: Sequence[Box], lines: Sequence[Line]) -> dict[Box, int]:
    """By the longest way to each; what nothing leads to stands right before what it leads to."""
    after: dict[Box, list[Box]] = {box: [] for box in boxes}
    waits = dict.fromkeys(boxes, 0)
    for line in lines:
        after[line.source].append(line.target)
        waits[line.target] += 1
    rank = {box: int(not box.first and any(other.first for other in boxes)) for box in boxes}
    sources = [box for box in boxes if not waits[box]]
    ready, done = list(sources), []
    while ready:
        box = ready.pop()
        done.append(box)
        for other in after[box]:
            rank[other] = max(rank[other], rank[box] + 1)
            waits[other] -= 1
            if not waits[other]:
                ready.append(other)
    if len(done) < len(boxes):
        raise ValueError("the graph has a cycle")
    for box in sources:
        if after[box] and not box.first:
            rank[box] = min(rank[other] for other in after[box]) - 1
    if any(box.last for box in boxes):
        deepest = max([rank[box] for box in boxes if not box.last], default=-1) + 1
        deepest = max(deepest, *(rank[box] for box in boxes if box.last))
        rank.update({box: deepest for box in boxes if box.last})
    used = {old: new for new, old in enumerate(sorted(set(rank.values())))}
    return {box: used[r] for box, r in rank.items()}


# Order


def _ordered(ranks: list[list[_Thing]], links: Sequence[_Link]) -> list[list[_Thing]]:
    """The ranks with few crossings: sweeps by barycentre and swaps of neighbours; the best that was met."""
    above: dict[_Thing, list[tuple[_Thing, float]]] = {thing: [] for things in ranks for thing in things}
    below: dict[_Thing, list[tuple[_Thing, float]]] = {thing: [] for things in ranks for thing in things}
    for source, target, leave, arrive, _ in links:
        above[target].append((source, leave))
        below[source].append((target, arrive))
    best = ranks = _first_order(ranks, below)
    fewest = _crossings(ranks, links)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        ranks = [list(things) for things in ranks]
        down = sweep % 2 == 0
        for k in range(1, len(ranks)) if down else range(len(ranks) - 2, -1, -1):
            _by_barycentre(ranks[k], ranks[k - 1 if down else k + 1], above if down else below)
        _swap(ranks, above, below)
        count = _crossings(ranks, links)
        if count < fewest:
            best, fewest = ranks, count
    return best


def _first_order(ranks: list[list[_Thing]], below: dict[_Thing, list[tuple[_Thing, float]]]) -> list[list[_Thing]]:
    """Each rank in the order in which a walk in depth meets its things, so that branches stay together."""
    met: dict[_Thing, None] = {}
    for things in ranks:
        for start in things:
            stack = [start]
            while stack:
                thing = stack.pop()
                if thing not in met:
                    met[thing] = None
                    stack.extend(other for other, _ in reversed(below[thing]))
    place = {thing: k for k, thing in enumerate(met)}
    return [sorted(things, key=place.__getitem__) for things in ranks]


def _by_barycentre(
    things: list[_Thing], fixed: Sequence[_Thing], neighbours: dict[_Thing, list[tuple[_Thing, float]]]
) -> None:
    place = {thing: k for k, thing in enumerate(fixed)}
    own = {thing: k for k, thing in enumerate(things)}

    def centre(thing: _Thing) -> float:
        # Ports of one box are told apart by a little, so that lines which leave it side by side stay so.
        found = [place[other] + port * 1e-4 for other, port in neighbours[thing]]
        return sum(found) / len(found) if found else own[thing]

    things.sort(key=centre)


def _swap(ranks: list[list[_Thing]], above: dict, below: dict) -> None:
    """Swap neighbours wherever that leaves fewer crossings, until it does nowhere."""
    place = {thing: k for things in ranks for k, thing in enumerate(things)}
    improved = True
    while improved:
        improved = False
        for things in ranks:
            for k in range(len(things) - 1):
                a, b = things[k], things[k + 1]
                if _between(a, b, above, place) + _between(a, b, below, place) > _between(
                    b, a, above, place
                ) + _between(b, a, below, place):
                    things[k], things[k + 1] = b, a
                    place[a], place[b] = k + 1, k
                    improved = True


def _between(left: _Thing, right: _Thing, neighbours: dict, place: dict[_Thing, int]) -> int:
    """The crossings of the lines of two things, the one left of the other."""
    ends = [(place[other], port) for other, port in neighbours[left]]
    return sum(end > (place[other], port) for other, port in neighbours[right] for end in ends)


def _crossings(ranks: Sequence[Sequence[_Thing]], links: Sequence[_Link]) -> int:
    place = {thing: (r, k) for r, things in enumerate(ranks) for k, thing in enumerate(things)}
    by_rank: list[list[tuple[tuple[int, float], tuple[int, float]]]] = [[] for _ in ranks]
    for source, target, leave, arrive, _ in links:
        r, k = place[source]
        by_rank[r].append(((k, leave), (place[target][1], arrive)))
    count = 0
    for pairs in by_rank:
        pairs.sort()
        for i, (begin, end) in enumerate(pairs):
            count += sum(begin < other[0] and end > other[1] for other in pairs[i + 1 :])
    return count


# Breadth


def _breadths(ranks: Sequence[Sequence[_Thing]], links: Sequence[_Link], spacing: Spacing) -> dict[_Thing, float]:
    """The middle of each thing along the breadth."""
    marked = _conflicts(ranks, links)
    layouts = []
    for down in (True, False):
        for rightwards in (True, False):
            found = _aligned(ranks, links, spacing, marked, down, rightwards)
            layouts.append(found if rightwards else {thing: -x for thing, x in found.items()})
    things = list(layouts[0])
    narrowest = min(layouts, key=lambda found: max(found.values()) - min(found.values()))
    for found, rightwards in zip(layouts, (True, False) * 2, strict=True):
        pick = min if rightwards else max
        shift = pick(narrowest.values()) - pick(found.values())
        for thing in found:
            found[thing] += shift
    return {thing: sum(sorted(found[thing] for found in layouts)[1:3]) / 2 for thing in things}


def _conflicts(ranks: Sequence[Sequence[_Thing]], links: Sequence[_Link]) -> set[tuple[_Thing, _Thing]]:
    """The links that cross a line on its way over several ranks; they give way, so that those lines are straight."""
    place = {thing: (r, k) for r, things in enumerate(ranks) for k, thing in enumerate(things)}
    by_rank: list[list[tuple[int, int, _Thing, _Thing]]] = [[] for _ in ranks]
    for source, target, *_ in links:
        by_rank[place[source][0]].append((place[source][1], place[target][1], source, target))
    marked = set()
    for found in by_rank:
        inner = [(a, b) for a, b, u, v in found if isinstance(u, _Stop) and isinstance(v, _Stop)]
        for a, b, u, v in found:
            if not (isinstance(u, _Stop) and isinstance(v, _Stop)) and any((a - c) * (b - d) < 0 for c, d in inner):
                marked.add((u, v))
    return marked


def _aligned(
    ranks: Sequence[Sequence[_Thing]],
    links: Sequence[_Link],
    spacing: Spacing,
    marked: set[tuple[_Thing, _Thing]],
    down: bool,
    rightwards: bool,
) -> dict[_Thing, float]:
    """One extreme alignment: each thing in line with a neighbour of the rank before, all as far left as they can be."""
    sign = 1 if rightwards else -1
    ordered = [list(things)[::sign] for things in (ranks if down else ranks[::-1])]
    place = {thing: k for things in ordered for k, thing in enumerate(things)}
    before: dict[_Thing, dict[_Thing, list[float]]] = {thing: {} for things in ordered for thing in things}
    strong = {(a, b) for a, b, _, _, strong in links if strong}
    # A box on the main way stands in line with what is on it, too, not with what passes by.
    followed = {link.source for link in links if link.strong and isinstance(link.source, Box)}
    led_to = {link.target for link in links if link.strong and isinstance(link.target, Box)}
    for source, target, leave, arrive, _ in links:
        one, other, offset = (source, target, leave - arrive) if down else (target, source, arrive - leave)
        weak = (source, target) not in strong and (source in followed or target in led_to)
        if not weak and (source, target) not in marked:
            before[other].setdefault(one, []).append(offset * sign)
    root = {thing: thing for thing in place}
    shift = dict.fromkeys(place, 0.0)
    taken: set[_Thing] = set()
    for things in ordered:
        reached = -1
        for thing in things:
            for other in _candidates(thing, before[thing], place):
                if root[thing] is thing and place[other] > reached and other not in taken:
                    offsets = before[thing][other]
                    root[thing] = root[other]
                    shift[thing] = shift[other] + sum(offsets) / len(offsets)
                    reached = place[other]
                    taken.add(other)
    return _compacted(ordered, root, shift, spacing)


def _candidates(thing: _Thing, neighbours: dict[_Thing, list[float]], place: dict[_Thing, int]) -> list[_Thing]:
    """The neighbours in the middle; of two, the one that is a box."""
    found = sorted(neighbours, key=place.__getitem__)
    if len(found) == 2 and isinstance(found[0], Box) != isinstance(found[1], Box):
        found = [other for other in found if isinstance(other, Box)]
    return [found[k] for k in dict.fromkeys(((len(found) - 1) // 2, len(found) // 2))] if found else []


def _compacted(
    ordered: Sequence[Sequence[_Thing]], root: dict[_Thing, _Thing], shift: dict[_Thing, float], spacing: Spacing
) -> dict[_Thing, float]:
    """Each block of aligned things as far left as may be, then as near as may be to what is right of it."""
    right: dict[_Thing, dict[_Thing, float]] = {block: {} for block in root.values()}
    waits = dict.fromkeys(right, 0)
    for things in ordered:
        for a, b in pairwise(things):
            apart = (
                _half(a) + _half(b) + (spacing.beside if isinstance(a, Box) and isinstance(b, Box) else spacing.stops)
            )
            apart += shift[a] - shift[b]
            one, other = root[a], root[b]
            waits[other] += other not in right[one]
            right[one][other] = max(apart, right[one].get(other, apart))
    at = dict.fromkeys(right, 0.0)
    ready, order = [block for block in right if not waits[block]], []
    while ready:
        block = ready.pop()
        order.append(block)
        for other, apart in right[block].items():
            at[other] = max(at[other], at[block] + apart)
            waits[other] -= 1
            if not waits[other]:
                ready.append(other)
    for block in reversed(order):
        if right[block]:
            at[block] = max(at[block], min(at[other] - apart for other, apart in right[block].items()))
    return {thing: at[root[thing]] + shift[thing] for thing in root}


def _half(thing: _Thing) -> float:
    return thing.breadth / 2 if isinstance(thing, Box) else 0.0


# Depth, ends of lines, ways


def _set_depths(
    ranks: Sequence[Sequence[_Thing]], links: Sequence[_Link], middles: dict[_Thing, float], spacing: Spacing
) -> None:
    """Set ``at`` of all boxes. Ranks are further apart where lines between them lead far aside."""
    rank = {thing: r for r, things in enumerate(ranks) for thing in things}
    aside = [0.0] * len(ranks)
    for source, target, leave, arrive, _ in links:
        away = abs(middles[source] + leave - middles[target] - arrive)
        aside[rank[source]] = max(aside[rank[source]], away)
    depth = 0.0
    for r, things in enumerate(ranks):
        tallest = max((thing.depth for thing in things if isinstance(thing, Box)), default=0.0)
        for thing in things:
            if isinstance(thing, Box):
                thing.at = (middles[thing], depth + tallest / 2)
        depth += tallest + spacing.between + min(2 * spacing.between, aside[r] / 9)


def _span(things: Sequence[_Thing]) -> tuple[float, float]:
    boxes = [thing for thing in things if isinstance(thing, Box)]
    return (
        min(box.at[1] - box.depth / 2 for box in boxes),
        max(box.at[1] + box.depth / 2 for box in boxes),
    )


def _ports(
    lines: Sequence[Line], ways: dict[Line, list[_Thing]], middles: dict[_Thing, float], spacing: Spacing
) -> tuple[dict[Line, float], dict[Line, float]]:
    """Where along the breadth each line begins and ends."""
    starts: dict[Line, float] = {}
    ends: dict[Line, float] = {}
    for found, at_end in ((starts, False), (ends, True)):
        by_box: dict[Box, list[Line]] = {}
        for line in lines:
            box = line.target if at_end else line.source
            fixed = box.entries if at_end else box.exits
            if fixed:
                found[line] = middles[box] + fixed[line.entry if at_end else line.exit]
            else:
                by_box.setdefault(box, []).append(line)
        for box, own in by_box.items():
            # Lines that go together begin together.
            ends_at: dict[Any, list[Line]] = {}
            for line in own:
                start = ways[line][1]
                ends_at.setdefault(start if isinstance(start, _Stop) and not at_end else line, []).append(line)
            together = sorted(ends_at.values(), key=lambda lines: _towards(lines[0], ways[lines[0]], middles, at_end))
            room = box.breadth / 2 - spacing.corner
            low, high = middles[box] - room, middles[box] + room
            apart = min(spacing.ports, 2 * room / max(1, len(together) - 1))
            towards = [_towards(lines[0], ways[lines[0]], middles, at_end) for lines in together]
            places = _spread([min(max(place, low), high) for place in towards], apart, low, high)
            for few, place in zip(together, places, strict=True):
                found.update(dict.fromkeys(few, place))
    return starts, ends


def _towards(line: Line, way: Sequence[_Thing], middles: dict[_Thing, float], at_end: bool) -> float:
    """Where the other end of a line's first or last piece is."""
    other = way[-2] if at_end else way[1]
    fixed = None
    if at_end and other is line.source:
        fixed = line.source.exits and line.source.exits[line.exit]
    elif not at_end and other is line.target:
        fixed = line.target.entries and line.target.entries[line.entry]
    return middles[other] + (fixed or 0.0)


def _spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Places at least so far apart, in order, within bounds, whose squared distance from the wanted ones is least."""
    # With k * apart taken away, the places need only be in order: an isotonic regression, by pooling neighbours.
    pools: list[list[float]] = []  # [sum, count]
    for k, place in enumerate(wanted):
        pools.append([place - k * apart, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    flat = [total / count for total, count in pools for _ in range(int(count))]
    highest = high - (len(wanted) - 1) * apart
    return [min(max(place, low), max(low, highest)) + k * apart for k, place in enumerate(flat)]


def _way(
    line: Line,
    way: Sequence[_Thing],
    middles: dict[_Thing, float],
    depths: Sequence[tuple[float, float]],
    first: int,
    start: float,
    end: float,
) -> list[Point]:
    points = [(start, line.source.at[1] + line.source.depth / 2), (start, depths[first][1])]
    for k, stop in enumerate(way[1:-1], start=first + 1):
        points += [(middles[stop], depths[k][0]), (middles[stop], depths[k][1])]
    last = first + len(way) - 1
    return [*points, (end, depths[last][0]), (end, line.target.at[1] - line.target.depth / 2)]


def _to_origin(boxes: Sequence[Box], lines: Sequence[Line]) -> tuple[float, float]:
    """Move all to where the smallest breadth is 0; the (breadth, depth) of the whole."""
    spans = [(box.at[0] - box.breadth / 2, box.at[0] + box.breadth / 2) for box in boxes]
    across = [x for line in lines for x, _ in line.points]
    low = min([a for a, _ in spans] + across)
    high = max([b for _, b in spans] + across)
    for box in boxes:
        box.at = (box.at[0] - low, box.at[1])
    for line in lines:
        line.points = [(x - low, y) for x, y in line.points]
    return high - low, max(box.at[1] + box.depth / 2 for box in boxes)
