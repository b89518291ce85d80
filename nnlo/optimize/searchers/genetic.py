"""Genetic search in steady state: a child is bred whenever a block is free, of what has ended by then.

Heuristic crossover and non-uniform mutation of Michalewicz (Genetic Algorithms + Data Structures = Evolution Programs,
1996) in the coordinates of the unit cube.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nnlo.errors import OptionsError
from nnlo.optimize.dimensions import Categorical
from nnlo.optimize.searchers.base import Asked, Searcher, Told
from nnlo.optimize.searchers.draws import Purpose, generator, succeeded, unlike
from nnlo.optimize.space import Space, Unit
from nnlo.optimize.trial import Parameters

#: How fast the mutations become small: the exponent b of Michalewicz's Delta(t, y).
COOLING = 3

#: Children that are bred before a random point takes the place of one that would be like another trial.
BROODS = 10


class Genetic(Searcher):
    """`iterations` generations of `population` trials each: trial n is of generation n // population.

    The first one is random. The parents of a child are among what had ended when it was asked for.
    """

    settings: ClassVar[Mapping[str, str]] = {"ga_populations": "population"}

    def __init__(self, space: Space, seed: int, iterations: int, *, population: int = 10) -> None:
        super().__init__(space, seed, iterations)
        if population < 2:
            raise OptionsError(f"--ga-populations must be at least 2, for a child has two parents, not {population}")
        self.population = population
        self._choices = np.array([isinstance(one, Categorical) for one in space.dimensions])
        self._sizes = np.array([one.size if isinstance(one, Categorical) else 1 for one in space.dimensions])

    @property
    def trials(self) -> int:
        return self.iterations * self.population

    def ask(self, number: int, ended: Sequence[Told], running: Sequence[Asked]) -> Parameters:
        rng = generator(self.seed, Purpose.GENETIC, number)
        members = self.members(ended) if number >= self.population else []
        done = number // self.population / self.iterations
        broods = range(BROODS if len(members) >= 2 else 0)
        children = (self.space.from_unit(self.child(rng, members, done)) for _ in broods)
        return unlike(self.space, rng, [*ended, *running], children)

    def members(self, ended: Sequence[Told]) -> list[tuple[float, Told]]:
        """(cost, trial) of the population: the elite of all times, then those that ended last; none that failed."""
        known = succeeded(ended)
        elite = sorted(known, key=cost_of)[: max(1, self.population // 5)]
        recent = [one for one in reversed(known) if one not in elite]
        return [*elite, *recent[: self.population - len(elite)]]

    def child(self, rng: np.random.Generator, members: Sequence[tuple[float, Told]], done: float) -> Unit:
        """A child of two members, at the share `done` of all generations."""
        better, worse = (self.space.to_unit(parent.parameters) for _, parent in parents(rng, members))
        return self.mutated(rng, self.crossed(rng, better, worse), done)

    def crossed(self, rng: np.random.Generator, better: Unit, worse: Unit) -> Unit:
        """better + U(0, 1) (better - worse), within the cube; the choices are each either parent's."""
        genes = np.clip(better + rng.random() * (better - worse), 0.0, 1.0)
        either = np.where(rng.random(len(genes)) < 0.5, better, worse)
        return np.where(self._choices, either, genes)

    def mutated(self, rng: np.random.Generator, genes: Unit, done: float) -> Unit:
        """Each gene moves by 1 - r^((1 - done)^3), r from U(0, 1), of its way to 0 or to 1; a choice becomes another
        one with that probability.
        """
        share: NDArray[np.float64] = 1.0 - rng.random(len(genes)) ** ((1.0 - done) ** COOLING)
        moved = genes + share * (rng.integers(2, size=len(genes)) - genes)
        steps = 1 + np.floor(rng.random(len(genes)) * (self._sizes - 1))
        other = np.where(rng.random(len(genes)) < share, (genes + steps / self._sizes) % 1.0, genes)
        return np.where(self._choices, other, moved)


def parents(rng: np.random.Generator, members: Sequence[tuple[float, Told]]) -> list[tuple[float, Told]]:
    """Two different members, the better one first, each the winner of a tournament."""
    first = winner(rng, members)
    second = winner(rng, [one for one in members if one is not first])
    return sorted((first, second), key=cost_of)


def winner(rng: np.random.Generator, members: Sequence[tuple[float, Told]]) -> tuple[float, Told]:
    """The better of two different members drawn at random, where there are two."""
    drawn = rng.choice(len(members), size=min(2, len(members)), replace=False)
    return min((members[int(place)] for place in drawn), key=cost_of)


def cost_of(member: tuple[float, Told]) -> float:
    return member[0]
