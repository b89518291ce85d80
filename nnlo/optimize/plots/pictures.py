"""The pictures that a search leaves in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nnlo.optimize.plots import best, blocks, dependence, parallel
from nnlo.optimize.plots.view import View
from nnlo.training.atomic import discard, replacing
from nnlo.training.plots.curves import head_lines
from nnlo.training.plots.style import installed, sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture(NamedTuple):
    title: Callable[[View], str]
    inches: Callable[[View], tuple[float, float]]
    draw: Callable[[Figure, View], None]


PICTURES = {
    "best.png": Picture(best.title, best.inches, best.draw),
    "parallel.png": Picture(parallel.title, parallel.inches, parallel.draw),
    "dependence.png": Picture(dependence.title, dependence.inches, dependence.draw),
    "blocks.png": Picture(blocks.title, blocks.inches, blocks.draw),
}


def draw(folder: Path, view: View) -> list[Path]:
    """Write them; returns the paths. Without matplotlib, or what one is to show, it is not there.

    Raises DataError where one cannot be written.
    """
    shown = {"blocks.png": view.stretches}
    drawn = [name for name in PICTURES if installed() and view.tried and shown.get(name, view.tried)]
    for name, picture in PICTURES.items():
        if name in drawn:
            write(folder / name, picture, view)
        else:
            discard(folder / name)
    return [folder / name for name in drawn]


def write(path: Path, picture: Picture, view: View) -> None:
    with replacing(path) as scratch, sheet(scratch, picture.inches(view)) as figure:
        picture.draw(figure, view)
        head_lines(figure, f"{view.name}: {picture.title(view)}", view.summary())
