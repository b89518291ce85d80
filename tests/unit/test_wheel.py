"""The wheel holds every module, under nnlo alone, and works outside the repository."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"nnlo": "nnlo", "drivers": "nnlo/drivers", "models": "nnlo/models"}
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, so that the repository stays clean."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", target, source], check=True, timeout=100)
    return next(target.glob("nnlo-*.whl"))


def test_wheel_holds_every_module_and_nothing_beside_nnlo(wheel: Path) -> None:
    wanted = {
        f"{inside}/{path.relative_to(ROOT / folder)}"
        for folder, inside in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".html", ".css")
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == wanted | {"nnlo/py.typed"}


def test_installed_wheel_works_in_any_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    scripts = configparser.ConfigParser(delimiters="=")
    scripts.optionxform = str  # type: ignore[assignment,method-assign]
    scripts.read(next((tmp_path / "site").glob("*.dist-info/entry_points.txt")))
    modules = {target.split(":")[0] for target in scripts["console_scripts"].values()}
    lines = [f"import {name} as m; print(m.__file__); m.main" for name in sorted(modules)]
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert {Path(line).parent for line in done.stdout.splitlines()} == {tmp_path / "site" / "nnlo" / "drivers"}
