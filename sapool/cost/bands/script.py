"""What a runtime does where stretches of a network are in bands: slices, the operators themselves, concatenations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sapool.cost.arena import ALIGNMENT, Buffer
from sapool.cost.bands.net import EACH, Net, Operator, Part, made, wanted

JOINED = 10
"""Tensors that one concatenation takes in TensorFlow Lite Micro."""
SLICE, JOIN = "slice", "concatenation"


@dataclass(frozen=True)
class Stretch:
    """Operators from place `start` to `stop` (excluded), whose results are made in so many bands."""

    start: int
    stop: int
    bands: int


@dataclass(frozen=True)
class Piece:
    """A tensor, or rows of it from `first` to `last` (excluded)."""

    tensor: int
    first: int
    last: int


@dataclass(frozen=True)
class Step:
    """One thing that the runtime does.

    Attributes:
        kind: what.
        reads, makes: values by their numbers.
        operator: its place in the net; None for slices and concatenations.
    """

    kind: str
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    operator: int | None = None


class Script:
    """The steps of a net, some stretches of it in bands.

    Each band reads the rows that it needs of what the stretch reads, so what lies between two bands is computed twice.

    Attributes:
        values: the net's tensors, under their numbers, and then what bands are.
        steps: in order.
    """

    def __init__(self, net: Net) -> None:
        self.net, self.steps = net, list[Step]()
        self.values = [Piece(number, 0, tensor.rows) for number, tensor in enumerate(net.tensors)]
        self._cut: dict[tuple[int, int, int], int] = {}

    @classmethod
    def of(cls, net: Net, stretches: Sequence[Stretch]) -> Script | None:
        """The script of a net with stretches that don't overlap; None where one can't be computed in bands."""
        script, starts = cls(net), {stretch.start: stretch for stretch in stretches}
        place = 0
        while place < len(net.operators):
            stretch = starts.get(place)
            if stretch is None:
                script.whole(place)
            elif not script.stretch(stretch):
                return None
            place = place + 1 if stretch is None else stretch.stop
        return script

    def whole(self, place: int) -> None:
        """An operator at once."""
        operator = self.net.operators[place]
        self.steps.append(Step(operator.kind, operator.reads, operator.makes, place))

    def stretch(self, stretch: Stretch) -> bool:
        """A stretch in bands; False where that can't be."""
        operators = self.net.operators[stretch.start : stretch.stop]
        assert all(map(self.net.banded, operators)), "a map that has no bands"
        results = self.net.results(stretch.start, stretch.stop)
        parts: dict[int, list[int]] = {number: [] for number in results}
        for band in range(stretch.bands):
            rows = {number: self._rows(number, band, stretch.bands) for number in results}
            needed = self._needed(operators, rows)
            if needed is None:
                return False
            have = self._band(stretch, needed)
            for number, made_ in parts.items():
                if len(made_) == JOINED:
                    made_[:] = [self._join(made_, None)]
                made_.append(self._sliced(number, have, *rows[number])[0])
        for number, made_ in parts.items():
            self._join(made_, number)
        return True

    def _rows(self, number: int, band: int, bands: int) -> tuple[int, int]:
        rows = self.net.tensors[number].rows
        return rows * band // bands, rows * (band + 1) // bands

    def size(self, value: int) -> int:
        """Bytes of a value, aligned."""
        found = self.values[value]
        tensor = self.net.tensors[found.tensor]
        size = tensor.size if value < len(self.net.tensors) else tensor.size * (found.last - found.first) // tensor.rows
        return -(-size // ALIGNMENT) * ALIGNMENT

    def held(self, before: Collection[int], after: Collection[int], steps: Sequence[Step] | None = None) -> list[int]:
        """The bytes held while each step runs, given the values held before the first, and those after the last."""
        steps = self.steps if steps is None else steps
        last = {value: place for place, step in enumerate(steps) for value in (*step.reads, *step.makes)}
        last |= dict.fromkeys(after, len(steps))
        live, found = sum(self.size(value) for value in before if value in last), list[int]()
        for place, step in enumerate(steps):
            live += sum(self.size(value) for value in step.makes)
            scratch = () if step.operator is None else self.net.operators[step.operator].scratch
            found.append(live + sum(scratch))
            live -= sum(self.size(value) for value in {*step.reads, *step.makes} if last[value] == place)
        return found

    def buffers(self) -> list[Buffer]:
        """What the arena has to hold, from step to step; the first is number 1."""
        spans: dict[int, tuple[int, int]] = dict.fromkeys(self.net.inputs, (0, 0))
        scratch: list[Buffer] = []
        for place, step in enumerate(self.steps, start=1):
            for value in step.reads:
                spans[value] = (spans[value][0], place)
            for value in step.makes:
                spans[value] = (place, place)
            if step.operator is not None:
                sizes = self.net.operators[step.operator].scratch
                scratch += [Buffer(f"scratch {place}.{n}", size, place, place) for n, size in enumerate(sizes)]
        for value in self.net.outputs:
            spans[value] = (spans[value][0], len(self.steps))
        return [*(Buffer(str(value), self.size(value), *span) for value, span in spans.items()), *scratch]

    def _band(self, stretch: Stretch, needed: dict[int, tuple[int, int]]) -> dict[int, tuple[int, Part]]:
        """Computes a band; what holds the rows of each tensor that it needs."""
        have: dict[int, tuple[int, Part]] = {}
        for place in range(stretch.start, stretch.stop):
            operator = self.net.operators[place]
            if operator.makes[0] in needed:
                read = {number: self._operand(operator, number, needed, have) for number in self.net.banded(operator)}
                if len({(part.first, part.last) for _, part in read.values()}) > 1:
                    read = {number: self._sliced(number, have, *needed[operator.makes[0]]) for number in read}
                self._run(place, read, have)
        return have

    def _needed(
        self, operators: Sequence[Operator], rows: dict[int, tuple[int, int]]
    ) -> dict[int, tuple[int, int]] | None:
        """The rows of each tensor that a band needs for such rows of a stretch's results."""
        needed = dict(rows)
        for operator in reversed(operators):
            made_ = needed.get(operator.makes[0])
            for number in self.net.banded(operator) if made_ is not None else ():
                assert made_ is not None
                assert operator.window is not None
                found = wanted(operator.window, self.net.tensors[number].rows, *made_)
                if found is None:
                    return None
                low, high = needed.get(number, found)
                needed[number] = min(low, found[0]), max(high, found[1])
        return needed

    def _operand(
        self, operator: Operator, number: int, needed: dict[int, tuple[int, int]], have: dict[int, tuple[int, Part]]
    ) -> tuple[int, Part]:
        """What an operator reads of an operand: what there is of it, or a slice of that."""
        rows, size = needed[operator.makes[0]], self.net.tensors[number].rows
        assert operator.window is not None
        least = wanted(operator.window, size, *rows)
        assert least is not None
        if number in have:
            part = have[number][1]
            direct = made(operator.window, size, part)
            narrow = self._row(number) < self._row(operator.makes[0]) and operator.window == EACH
            if (part.first, part.last) == least or (direct is not None and direct.covers(*rows) and not narrow):
                return have[number]
        return self._sliced(number, have, *least)

    def _row(self, number: int) -> int:
        return self.net.tensors[number].size // self.net.tensors[number].rows

    def _sliced(self, number: int, have: dict[int, tuple[int, Part]], first: int, last: int) -> tuple[int, Part]:
        """Such rows of a tensor, and nothing else."""
        rows = self.net.tensors[number].rows
        value, part = have.get(number, (number, Part(0, rows, (0, rows))))
        right = Part(first, last, (first, last))
        if (part.first, part.last) == (first, last):
            return value, right
        key = (value, first, last)
        if key not in self._cut:
            self._cut[key] = self._value(number, first, last)
            self.steps.append(Step(SLICE, (value,), (self._cut[key],)))
        return self._cut[key], right

    def _run(self, place: int, operands: dict[int, tuple[int, Part]], have: dict[int, tuple[int, Part]]) -> None:
        operator = self.net.operators[place]
        assert operator.window is not None
        number, (_, part) = next(iter(operands.items()))
        rights = [part.right for _, part in operands.values()]
        part = Part(part.first, part.last, (max(low for low, _ in rights), min(high for _, high in rights)))
        result = made(operator.window, self.net.tensors[number].rows, part)
        assert result is not None
        value = self._value(operator.makes[0], result.first, result.last)
        reads = tuple(operands[n][0] if n in operands else n for n in operator.reads)
        self.steps.append(Step(operator.kind, reads, (value,), place))
        have[operator.makes[0]] = value, result

    def _value(self, tensor: int, first: int, last: int) -> int:
        self.values.append(Piece(tensor, first, last))
        return len(self.values) - 1

    def _join(self, parts: Sequence[int], whole: int | None) -> int:
        """Bands that follow each other as one: a part of their map, or all of it."""
        ends = self.values[parts[0]], self.values[parts[-1]]
        value = self._value(ends[0].tensor, ends[0].first, ends[1].last) if whole is None else whole
        self.steps.append(Step(JOIN, tuple(parts), (value,)))
        return value

    def added(self) -> Iterator[Step]:
        """The steps that the net has no operators for, or has them once."""
        seen: set[int | None] = set()
        for step in self.steps:
            if step.operator is None or step.operator in seen:
                yield step
            seen.add(step.operator)
