"""Into which groups to cut an attention's heads: as few as hold so much at a time."""

from __future__ import annotations

from functools import lru_cache

Groups = tuple[int, ...]
"""How many heads are computed together, group after group."""


def excess(groups: Groups) -> int:
    """What is held at most beside the tokens and what waits for their weights, in outputs of one head.

    While a group's queries come by rows, its keys and values are there, and the outputs of the groups before it; at the
    end its own as well. The last group's queries, keys and values take the place of the tokens, row by row.
    """
    done, most = 0, 2 * groups[-1]
    for count in groups[:-1]:
        done += count
        most = max(most, done + 2 * count)
    return most


@lru_cache(64)
def ladder(heads: int) -> tuple[Groups, ...]:
    """Groups of so many heads, from one group to those that hold least: of each number of groups the best.

    A group can be the larger the fewer outputs there are when it is done, so they come with sizes that fall, and then a
    large one.
    """
    found: dict[int, Groups] = {}
    for most in range(2 * heads, 0, -1):
        groups = _fewest(heads, most)
        if groups is None:
            break
        if len(groups) not in found or excess(groups) < excess(found[len(groups)]):
            found[len(groups)] = groups
    return tuple(found[count] for count in sorted(found))


def _fewest(heads: int, most: int) -> Groups | None:
    """The fewest groups whose excess is within `most`, or None where there are none."""
    last = min(most // 2, heads)
    groups, left = [last], heads - last
    while left and groups[0]:
        groups.insert(0, min((most - left) // 2, left))
        left -= groups[0]
    return tuple(groups) if groups[0] > 0 else None
