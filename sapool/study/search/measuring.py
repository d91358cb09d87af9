"""What all networks of a space need: in an order in which few are measured whole, on the machine's cores.

Networks of one backbone and one pooling share their stages, and no others do. They are a group, which one process
measures.
"""

from __future__ import annotations

import heapq
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import accumulate
from math import prod
from multiprocessing import get_context
from operator import mul

from sapool.cost.assumptions import Assumptions
from sapool.cost.limits import Needs
from sapool.errors import InputError
from sapool.ir.plan import Plan
from sapool.planning import make_plan
from sapool.recipes.inputs import sides_of
from sapool.runs.process.workers import end_with_parent
from sapool.study.search.segments import Meter
from sapool.study.search.space import Candidate, Space

Told = dict[Candidate, Needs | str]
"""What each network needs, or why it doesn't compile."""
_FEW = 100
"""So many networks are measured before another process has loaded torch."""


def plan_of(candidate: Candidate, space: Space) -> Plan:
    """The plan of a space's network."""
    return make_plan(
        candidate.text, image_size=candidate.image_size, num_classes=space.num_classes, in_chans=space.in_chans,
        dialect=space.dialect,
    )  # fmt: skip


def needs_of_all(
    found: Sequence[Candidate],
    space: Space,
    assumptions: Assumptions,
    jobs: int = 1,
    watch: Callable[[int, int], None] | None = None,
) -> Told:
    """What every network needs.

    Args:
        found: the networks.
        space: they are of.
        assumptions: of the device.
        jobs: processes at most. They are started anew, so a script that asks for several guards its main part.
        watch: is told how many of how many are done.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(candidate.text.rpartition("-")[0], []).append(candidate)
    told: Told = {}
    for part in _measured(sorted(groups.values(), key=len, reverse=True), space, assumptions, jobs):
        told |= part
        if watch is not None:
            watch(len(told), len(found))
    return told


def _measured(
    groups: Sequence[Sequence[Candidate]], space: Space, assumptions: Assumptions, jobs: int
) -> Iterator[Told]:
    others = min(jobs, len(groups)) - 1
    if others < 1 or sum(map(len, groups)) < _FEW:
        yield from (group_needs(group, space, assumptions) for group in groups)
        return
    with ProcessPoolExecutor(others, get_context("spawn"), _begin_worker) as pool:
        futures: list[Future[Told]] = [pool.submit(group_needs, group, space, assumptions) for group in groups]
        # They begin with the largest, and this process, which has loaded torch, with the smallest.
        for future, group in zip(reversed(futures), reversed(groups), strict=True):
            if future.cancel():
                yield group_needs(group, space, assumptions)
        for future in futures:
            if not future.cancelled():
                yield future.result()


def group_needs(group: Sequence[Candidate], space: Space, assumptions: Assumptions) -> Told:
    """What the networks of a group need."""
    meter, told = Meter(assumptions), dict[Candidate, Needs | str]()
    for candidate in in_order(group):
        try:
            told[candidate] = meter.needs(plan_of(candidate, space))
        except InputError as error:
            told[candidate] = error.given.splitlines()[0]
    return told


def in_order(group: Sequence[Candidate]) -> list[Candidate]:
    """A group's networks, those first that have most stages, with the maps that reach them, which none before has.

    Sizes of one network stay together, the largest first: the meter rewrites it once then.
    """
    sizes: dict[str, list[Candidate]] = {}
    for candidate in sorted(group, key=lambda one: (one.text, -prod(sides_of(one.image_size)))):
        sizes.setdefault(candidate.text, []).append(candidate)
    parts = {text: {part for one in some for part in _parts(one)} for text, some in sizes.items()}
    # What a network has that is new only gets less, so the first that hasn't got less since it was looked at is best.
    heap = [(-len(some), text) for text, some in parts.items()]
    heapq.heapify(heap)
    seen: set[object] = set()
    ordered: list[Candidate] = []
    while heap:
        count, text = heapq.heappop(heap)
        new = len(parts[text] - seen)
        if new < -count:
            heapq.heappush(heap, (-new, text))
            continue
        seen |= parts[text]
        ordered += sizes[text]
    return ordered


def _parts(candidate: Candidate) -> Iterator[object]:
    """A network's stages, by their strides and, nearly, the maps that reach them."""
    strides = [int(digit) for digit in candidate.text.rpartition("-")[2]]
    height, width = sides_of(candidate.image_size)
    for stage, (stride, before) in enumerate(zip(strides, accumulate([1, *strides], mul), strict=False)):
        yield stage, stride, -(-height // before), -(-width // before)


def _begin_worker() -> None:
    """Ctrl-C reaches this process too, and is for the one that started it, with which it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
