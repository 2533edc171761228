"""Counting and numbering the combinations of a finite space, conditions included, without ever listing them."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence

from hpcompss.space.parameters import Condition, Parameter
from hpcompss.trial import Configuration, Value

__all__ = ["Lattice", "Permutation", "parents_first"]

State = tuple[bool, ...]
"""Which of the conditions that later parameters depend on hold so far."""

Run = tuple[int, int, State]
"""First index and length of a run of values that later conditions do not tell apart, and which of those they meet."""


def parents_first(parameters: Sequence[Parameter], *, adjacent: bool = False) -> list[Parameter]:
    """Returns the parameters with parents before their children, else in the order given.

    Args:
        parameters: Their conditions must not go round in a circle.
        adjacent: Whether children come right behind their parents, so that few conditions are open at any place, which
            keeps a `Lattice` small.
    """
    named: dict[str, list[int]] = {}
    for number, parameter in enumerate(parameters):
        named.setdefault(parameter.name, []).append(number)
    children: dict[str, list[int]] = {}
    parents: list[list[int]] = []
    for number, parameter in enumerate(parameters):
        names = list(dict.fromkeys(condition.parent for condition in parameter.conditions))
        parents.append([parent for name in names for parent in named[name]])
        for name in names:
            children.setdefault(name, []).append(number)
    placed: dict[int, Parameter] = {}
    stack = list(reversed(range(len(parameters))))
    while stack:
        number = stack.pop()
        if number in placed:
            continue
        missing = [parent for parent in parents[number] if parent not in placed]
        if missing:
            stack += [number, *reversed(missing)]
        else:
            placed[number] = parameters[number]
            stack += reversed(children.get(parameters[number].name, []) if adjacent else [])
    return list(placed.values())


class Lattice:
    """The combinations of a finite space, numbered from 0 with the last parameter varying fastest.

    Built once in a pass over the parameters that carries, from each to the next, the possible truths of the conditions
    still needed, and a pass back that counts the ways to complete each. A number is then turned into its combination
    in one walk: O(parameters), and a further step for each value that a condition names.

    Args:
        parameters: In any order with parents before their children; all countable.
        names: The order of the names in the configurations it gives.
    """

    def __init__(self, parameters: Sequence[Parameter], names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._parameters = list(parameters)
        live = self._live_conditions()
        self._needs = [
            [here.index(condition) for condition in parameter.conditions]
            for parameter, here in zip(self._parameters, live[:-1], strict=True)
        ]
        self._carried = [
            [here.index(condition) if condition in here else None for condition in after]
            for here, after in itertools.pairwise(live)
        ]
        self._runs = [_runs(parameter, after) for parameter, after in zip(self._parameters, live[1:], strict=True)]
        self._unmet: list[State] = [(False,) * len(after) for after in live[1:]]
        self._ways = self._count_ways()

    @property
    def count(self) -> int:
        """How many combinations there are."""
        return self._ways[0][()]

    def combination(self, number: int) -> Configuration:
        """Returns combination ``number``, from 0. Raises `IndexError` outside the lattice."""
        if not 0 <= number < self.count:
            raise IndexError(f"combination {number} of {self.count}")
        configuration: Configuration = {}
        state: State = ()
        for position, parameter in enumerate(self._parameters):
            if not self._active(position, state):
                state = self._next_state(position, state, self._unmet[position])
                continue
            for first, length, met in self._runs[position]:
                following = self._next_state(position, state, met)
                ways = self._ways[position + 1][following]
                if number < length * ways:
                    index, number = divmod(number, ways)
                    configuration[parameter.name] = parameter.value(first + index)
                    state = following
                    break
                number -= length * ways
        return {name: configuration[name] for name in self._names if name in configuration}

    def _live_conditions(self) -> list[list[Condition]]:
        """Returns, for each position, the conditions on earlier parameters that it or a later one depends on."""
        first: dict[str, int] = {}
        for position, parameter in enumerate(self._parameters):
            first.setdefault(parameter.name, position)
        live: list[dict[Condition, None]] = [{} for _ in range(len(self._parameters) + 1)]
        for position, parameter in enumerate(self._parameters):
            for condition in parameter.conditions:
                for between in range(first[condition.parent] + 1, position + 1):
                    live[between][condition] = None
        return [list(each) for each in live]

    def _active(self, position: int, state: State) -> bool:
        return all(state[place] for place in self._needs[position])

    def _next_state(self, position: int, state: State, met: State) -> State:
        """Returns the state after this parameter, which met those conditions of the next state."""
        return tuple(
            here or (place is not None and state[place])
            for here, place in zip(met, self._carried[position], strict=True)
        )

    def _count_ways(self) -> list[dict[State, int]]:
        states: list[State] = [()]
        successors: list[dict[State, Counter[State]]] = []
        for position, runs in enumerate(self._runs):
            step: dict[State, Counter[State]] = {}
            for state in states:
                following: Counter[State] = Counter()
                if self._active(position, state):
                    for _, length, met in runs:
                        following[self._next_state(position, state, met)] += length
                else:
                    following[self._next_state(position, state, self._unmet[position])] = 1
                step[state] = following
            successors.append(step)
            states = list(dict.fromkeys(state for following in step.values() for state in following))
        ways: list[dict[State, int]] = [dict.fromkeys(states, 1)]
        for step in reversed(successors):
            after = ways[-1]
            ways.append({state: sum(n * after[s] for s, n in following.items()) for state, following in step.items()})
        return ways[::-1]


def _runs(parameter: Parameter, conditions: Sequence[Condition]) -> list[Run]:
    """Returns the parameter's values in runs that the conditions do not tell apart, ascending."""
    own = [set(condition.values) if condition.parent == parameter.name else set() for condition in conditions]
    told = {index for values in own for value in values if (index := _index(parameter, value)) is not None}
    runs: list[Run] = []
    first = 0
    for index in [*sorted(told), int(parameter.count)]:
        if index > first:
            runs.append((first, index - first, (False,) * len(own)))
        if index in told:
            runs.append((index, 1, tuple(parameter.value(index) in values for values in own)))
        first = index + 1
    return runs


def _index(parameter: Parameter, value: Value) -> int | None:
    """Returns the number of ``value``, or None where it belongs to another parameter of the same name."""
    try:
        return parameter.index(parameter.check(value))
    except ValueError:
        return None


class Permutation:
    """A shuffle of the numbers 0 to size - 1 that is never held in memory.

    A Feistel network over the next even power of two, walked until it lands inside (Black and Rogaway, 2002, "Ciphers
    with arbitrary finite domains", the generalised-Feistel and cycle-walking constructions).

    Args:
        size: How many numbers.
        seed: Chooses the shuffle.
    """

    ROUNDS = 6

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._key = seed.to_bytes((seed.bit_length() + 8) // 8, "big", signed=True)

    def __call__(self, number: int) -> int:
        """Returns what stands at place ``number``. Raises `IndexError` outside 0 to size - 1."""
        if not 0 <= number < self._size:
            raise IndexError(f"place {number} of {self._size}")
        place = self._scramble(number)
        while place >= self._size:
            place = self._scramble(place)
        return place

    def _scramble(self, number: int) -> int:
        mask = (1 << self._half) - 1
        left, right = number >> self._half, number & mask
        for turn in range(self.ROUNDS):
            left, right = right, left ^ (self._hash(turn, right) & mask)
        return left << self._half | right

    def _hash(self, turn: int, number: int) -> int:
        length = self._half // 8 + 1
        data = bytes([turn, len(self._key)]) + self._key + number.to_bytes(length, "big")
        return int.from_bytes(hashlib.shake_128(data).digest(length), "big")
