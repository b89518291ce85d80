"""How pictures look, and the sheet that they are drawn on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nnlo.errors import OptionsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.4",
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "xtick.color": "0.3",
    "ytick.color": "0.3",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "svg.fonttype": "none",
}
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by everyone, and in print (Okabe and Ito)."""

HEAD_INCHES = 0.58
"""The height of those two lines."""

ENDINGS = ("png", "pdf", "svg")


def installed() -> bool:
    """Whether matplotlib is."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def check_picture(path: Path) -> None:
    """Raises OptionsError where no such picture can be drawn."""
    if path.suffix.removeprefix(".") not in ENDINGS:
        raise OptionsError(f"--output {path}: a picture's name ends in .{', .'.join(ENDINGS[:-1])} or .{ENDINGS[-1]}")
    if not installed():
        raise OptionsError("a picture needs matplotlib: pip install 'nnlo[plot]'")


@contextmanager
def sheet(path: Path, inches: tuple[float, float]) -> Iterator[Figure]:
    """An empty figure with room for two lines above its panels, written to `path` at the end.

    matplotlib's state is left as it was.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.style.context(["default", STYLE]):
        below = (0, 0, 1, 1 - HEAD_INCHES / inches[1])
        layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.1, hspace=0.03, wspace=0.02, rect=below)
        figure = Figure(figsize=inches, dpi=150, layout=layout)
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path)
