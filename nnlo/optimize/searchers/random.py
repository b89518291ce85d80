"""Random search: each trial is drawn by itself (Bergstra and Bengio 2012, JMLR 13)."""

from __future__ import annotations

from collections.abc import Sequence

from nnlo.optimize.searchers.base import Asked, Searcher, Told
from nnlo.optimize.searchers.draws import Purpose, generator, unlike
from nnlo.optimize.trial import Parameters


class Random(Searcher):
    """Uniform in the space, log-uniform where a dimension says `log`; no point twice while there are others."""

    def ask(self, number: int, ended: Sequence[Told], running: Sequence[Asked]) -> Parameters:
        return unlike(self.space, generator(self.seed, Purpose.RANDOM, number), [*ended, *running])
