"""The folder of an experiment: what was asked for, what each run came to, the table and the pictures."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import yaml

from nnlo.errors import DataError, OptionsError
from nnlo.experiments.experiment import Experiment, Run
from nnlo.experiments.figures import draw_all, draw_graph
from nnlo.experiments.results import Result, read_result
from nnlo.experiments.summary import as_csv
from nnlo.topology.mixing import Mixing
from nnlo.training.atomic import replacing
from nnlo.training.plots.style import installed

DATE = "[0-9]" * 4 + "-[0-9][0-9]" * 2


class ExperimentFiles:
    """`path` is `<folder>/<date>_<name>`: that of an earlier day, where the same experiment is there unfinished."""

    def __init__(self, experiment: Experiment, today: datetime.date | None = None) -> None:
        self._experiment = experiment
        options = experiment.options
        name = re.sub(r"[^\w.=+-]+", "_", options.name or "experiment")
        earlier = sorted(path for path in options.folder.glob(f"{DATE}_{name}") if self._resolved(path) is not None)
        same = [path for path in earlier if self._resolved(path) == self.resolved]
        day = (today or datetime.date.today()).isoformat()
        self.path = same[-1] if same else options.folder / f"{day}_{name}"
        if not same and self._resolved(self.path) is not None:
            raise OptionsError(f"{self.path}: another experiment of that name was begun today: give it another 'name'")
        self.title = options.name or "experiment"

    @property
    def resolved(self) -> dict[str, Any]:
        """All of the experiment in plain values."""
        options, costs = self._experiment.options.recorded(), vars(self._experiment.costs)
        return {
            "experiment": {name: value for name, value in options.items() if name != "folder"},
            "delays": {"kind": type(self._experiment.delay).__name__.lower(), **self._experiment.delay.recorded()},
            "costs": {name: value for name, value in costs.items() if isinstance(value, (int, float))},
            "runs": [{"name": run.name, **plain(run.options)} for run in self._experiment.runs],
        }

    def _resolved(self, path: Path) -> Any:
        """What an earlier run of an experiment left there; None where nothing can be read."""
        try:
            return yaml.safe_load((path / "experiment.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            return None

    def open(self, versions: Mapping[str, str]) -> None:
        """Raises OptionsError where nothing can be written there."""
        try:
            (self.path / "runs").mkdir(parents=True, exist_ok=True)
            self.write("experiment.yaml", yaml.safe_dump(self.resolved, sort_keys=False))
            self.write("versions.json", json.dumps(dict(versions), indent=1) + "\n")
        except (OSError, DataError) as error:
            raise OptionsError(f"{self.path}: cannot be written: {error}: name another 'folder'") from None

    def write(self, name: str, text: str) -> None:
        with replacing(self.path / name) as scratch:
            scratch.write_text(text, encoding="utf-8")

    def result(self, run: Run) -> Result | None:
        """What that run came to, if it is complete."""
        path = self.path / "runs" / run.file
        if not path.exists():
            return None
        found = read_result(path)
        return found if found.done else None

    def keep(self, run: Run, result: Result) -> None:
        result.write(self.path / "runs" / run.file)

    def graph(self, name: str, mixing: Mixing) -> None:
        """Its edges, and a picture."""
        edges = sorted({(min(i, j), max(i, j)) for i in range(mixing.nodes) for j in mixing.heard_by(i)})
        self.write(f"graph_{name}.txt", "".join(f"{i} {j}\n" for i, j in edges))
        if installed():
            graph = nx.empty_graph(mixing.nodes)
            graph.add_edges_from(edges)
            draw_graph(self.path / f"graph_{name}.png", f"{self.title}: {name}", graph, mixing.gap)

    def finish(self, results: Sequence[Result]) -> list[Path]:
        """The table and the pictures; their paths."""
        self.write("summary.csv", as_csv(results))
        separate = self._experiment.options.figures == "separate"
        return [self.path / "summary.csv", *draw_all(self.path / "figures", self.title, results, separate)]


def plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
