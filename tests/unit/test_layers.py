"""Imports run one way, `comm`, `data` and `model` never meet, and mpi4py is behind one module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = (
    ("collector", "errors", "options", "registry", "version", "logs", "launcher"),
    ("blocks", "flat", "gradients", "optim", "compress", "topology"),
    ("algos",),
    ("comm", "data", "model"),
    ("training",),
    ("threads", "allocation", "roles", "callbacks"),
    ("manager",),
    ("optimize", "experiments"),
    ("cli", "manual", "excepthook", "drivers", "models"),
)
"""The parts of nnlo, lowest first: a part imports from its own layer and from those before it."""

STRANGERS = {"comm", "data", "model"}
"""Parts of one layer that do not import one another either."""

LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
MPI_MODULE = "nnlo.comm.mpi"


def modules() -> dict[str, Path]:
    """{module name: file} of the package, with the folders drivers and models as it installs them."""
    folders = {"nnlo": ROOT / "nnlo", "nnlo.drivers": ROOT / "drivers", "nnlo.models": ROOT / "models"}
    return {
        ".".join((name, *path.relative_to(folder).with_suffix("").parts)): path
        for name, folder in folders.items()
        for path in sorted(folder.rglob("*.py"))
    }


def imports(module: str, source: str) -> Iterator[str]:
    """The full name of everything that a module imports, at its top or within functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.split(".")[: -node.level]) if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def part_of(name: str) -> str:
    """'comm' of 'nnlo.comm.mpi'; '' of the package itself, whose `__init__` gathers the public names."""
    return [*name.split("."), ""][1].removesuffix("__init__")


def faults(module: str, source: str) -> list[str]:
    """One line for each import of `module` that is not allowed, and for a part that has no layer."""
    part, found = part_of(module), []
    if part and part not in LEVEL:
        return [f"{module}: '{part}' has no place in LAYERS"]
    for name in imports(module, source):
        target = part_of(name)
        if name.split(".")[0] == "mpi4py" and module != MPI_MODULE:
            found.append(f"{module} imports mpi4py: only {MPI_MODULE} does")
        elif name.split(".")[0] == "nnlo" and part and target != part and not allowed(part, target):
            found.append(f"{module} imports {name}: '{target or 'nnlo'}' is not below '{part}'")
    return found


def allowed(part: str, target: str) -> bool:
    # A name that is no part is a public name of the package itself, which stands where its manager does.
    return LEVEL.get(target, LEVEL["manager"]) <= LEVEL[part] and not {part, target} <= STRANGERS


@pytest.mark.parametrize("module", modules())
def test_imports_run_one_way(module: str) -> None:
    assert faults(module, modules()[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("nnlo.flat", "from nnlo.algos.base import Server"),
        ("nnlo.algos.downpour", "import nnlo.comm.messages"),
        ("nnlo.algos.downpour", "from nnlo import roles"),
        ("nnlo.algos.downpour", "from nnlo import MPIManager"),
        ("nnlo.algos.downpour", "from ..manager import MPIManager"),
        ("nnlo.data.base", "def late():\n    from nnlo.model.losses import get_loss"),
        ("nnlo.comm.virtual", "import nnlo.data"),
        ("nnlo.comm.virtual", "from mpi4py import MPI"),
        ("nnlo.drivers.TrainingDriver", "import mpi4py.MPI"),
        ("nnlo.__init__", "import mpi4py"),
        ("nnlo.drawer", "import math"),
    ],
)
def test_wrong_import_is_noticed(module: str, line: str) -> None:
    assert len(faults(module, line)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("nnlo.comm.mpi", "from mpi4py import MPI"),
        ("nnlo.comm.mpi", "from . import messages"),
        ("nnlo.comm.mpi", "from nnlo.comm.base import Transport"),
        ("nnlo.optim.build", "from nnlo import errors"),
        ("nnlo.optim.build", "from nnlo.flat import Flat"),
        ("nnlo.__init__", "from nnlo.manager import MPIManager"),
        ("nnlo.drivers.GetData", "import numpy, nnlo.data.digits"),
    ],
)
def test_right_import_passes(module: str, line: str) -> None:
    assert faults(module, line) == []


@pytest.mark.parametrize("module", ["nnlo", "nnlo.drivers", "nnlo.models"])
def test_importing_the_package_starts_no_mpi(module: str, tmp_path: Path) -> None:
    program = f"import sys, {module}; sys.exit('mpi4py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, timeout=60).returncode == 0


def test_training_loads_no_compiler(tmp_path: Path) -> None:
    """torch's takes every rank a second or two; its optimizers load it unless they are kept from it."""
    program = (
        "import sys; from nnlo.optim import OptimizerSpec; from torch import ones\n"
        "for name in ('sgd', 'adam', 'adamw', 'rmsprop'):\n"
        "    optimizer, vector = OptimizerSpec.of(name, {'lr': 0.5}).build(ones(2)), ones(2)\n"
        "    optimizer.step(vector, ones(2))\n"
        "    optimizer.load_state_dict(optimizer.state_dict())\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, timeout=60).returncode == 0
