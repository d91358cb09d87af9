"""How finely to cut each attention's heads: as little as the rest of the network makes worth it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from sapool.schedule.heads.groups import Groups, excess, ladder
from sapool.schedule.heads.split import attentions
from sapool.schedule.operations import Network


@dataclass(frozen=True)
class Need:
    """What an attention takes, computed by rows.

    Attributes:
        heads: h.
        held: bytes that are there before anything is projected: its tokens, and what is needed later.
        output: bytes of one head's outputs.
    """

    heads: int
    held: int
    output: int

    def peak(self, groups: Groups) -> int:
        """Bytes at the peak with heads in groups, but for a few rows."""
        return self.held + excess(groups) * self.output

    def fewest(self, most: int) -> Groups:
        """The fewest groups that take `most` bytes, or as little as possible where that is too few."""
        rungs = ladder(self.heads)
        return next((groups for groups in rungs if self.peak(groups) <= most), rungs[-1])

    @property
    def lowest(self) -> int:
        """Bytes at the peak with heads in the best groups."""
        return self.peak(ladder(self.heads)[-1])


def needs(graph: fx.GraphModule, net: Network, live: Sequence[int], width: int) -> list[Need]:
    """What each attention of a graph takes.

    Args:
        graph: that `net` is of.
        net: its operations.
        live: bytes that are held before each of them.
        width: bytes of an entry.
    """
    found = []
    for attention in attentions(graph):
        linear = net.operations[net.aliases[attention.linear].operation]
        held = live[net.aliases[attention.linear].operation]
        found.append(Need(attention.heads, held, linear.rows * linear.row_size * width // (3 * attention.heads)))
    return found
