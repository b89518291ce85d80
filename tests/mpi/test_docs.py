"""Every page of the documentation does what it says: its commands and its Python run, over real mpirun."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnlo.data.prepare import prepare
from tests.pages import Reader, blocks_of

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if any(block.language in ("sh", "python") for block in blocks_of(path.read_text()))
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for prepared data that holds the digits and no MNIST."""
    folder = tmp_path_factory.mktemp("data")
    prepare("digits", folder)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_a_reader_gets_through(page: Path, home: Path, tmp_path: Path) -> None:
    Reader(tmp_path, {"NNLO_DATA": str(home), "MPLBACKEND": "Agg"}).follow(page)


def test_there_are_pages() -> None:
    assert len(PAGES) >= 10
