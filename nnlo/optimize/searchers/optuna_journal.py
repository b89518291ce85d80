"""The trials of a search as a journal of Optuna's, for its dashboard: `optuna-dashboard FILE`."""

from __future__ import annotations

from pathlib import Path

from nnlo.optimize.searchers.optuna import distribution, extra
from nnlo.optimize.space import Space
from nnlo.optimize.trial import Status, Trial

STATES = {Status.DONE: "COMPLETE", Status.PRUNED: "PRUNED", Status.FAILED: "FAIL"}


class OptunaJournal:
    """Lines of JSON that are written as trials end; one that goes on from a record begins its journal anew.

    What is there is deleted and never read. Raises OptionsError where Optuna is not installed.
    """

    def __init__(self, path: Path, space: Space, study: str, less_is_better: bool) -> None:
        self._optuna = extra("optuna")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._distributions = {one.name: distribution(self._optuna, one) for one in space.dimensions}
        path.unlink(missing_ok=True)
        storages = self._optuna.storages
        self._study = self._optuna.create_study(
            storage=storages.JournalStorage(storages.journal.JournalFileBackend(str(path))),
            study_name=study,
            direction="minimize" if less_is_better else "maximize",
        )

    def write(self, trial: Trial) -> None:
        """Add a trial that has ended; in the journal it has a number of its own, ours is an attribute."""
        told = {"number": trial.number, "block": trial.block, "seconds": trial.seconds, "reason": trial.reason}
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=self._optuna.trial.TrialState[STATES[trial.status]],
                value=trial.figure,
                params=dict(trial.parameters),
                distributions=self._distributions,
                intermediate_values=dict(enumerate(trial.figures, start=1)),
                user_attrs={name: value for name, value in told.items() if value is not None},
            )
        )
