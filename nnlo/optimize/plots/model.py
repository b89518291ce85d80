"""A model of the figure as a function of the hyperparameters, and how it depends on each of them.

Partial dependence is Friedman's (2001, "Greedy function approximation", section 8.2): the mean over the trials of what
the model makes of them with one hyperparameter set to each of its values in turn. skopt.plots has it too, but spreads
these values evenly where an axis is logarithmic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nnlo.optimize.plots.view import View

LEAST = 10
"""Trials that a model needs."""

POINTS = 40


class Dependence(NamedTuple):
    """Figures by the places, 0 to 1, of a hyperparameter."""

    places: list[float]
    figures: list[float]


def dependences(view: View) -> list[Dependence]:
    """One for each dimension; none at all where there are too few trials that differ.

    The model is of places on the figure's axis, so that one far beyond it counts as one at its end.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import partial_dependence

    trials = [trial for trial in view.tried if trial.number in view.scored]
    targets = [view.scale.place(view.scored[trial.number]) for trial in trials]
    if len(trials) < LEAST or len(set(targets)) == 1:
        return []
    points = np.array([[one.to_unit(trial.parameters[one.name]) for one in view.dimensions] for trial in trials])
    model = RandomForestRegressor(n_estimators=100, min_samples_leaf=2, random_state=0).fit(points, targets)
    found = []
    for at in range(len(view.dimensions)):
        told = partial_dependence(model, points, [at], percentiles=(0, 1), grid_resolution=POINTS)
        figures = [view.scale.at(float(place)) for place in told["average"][0]]
        found.append(Dependence(told["grid_values"][0].tolist(), figures))
    return found
