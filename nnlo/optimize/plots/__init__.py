"""Pictures of searches, drawn by matplotlib where it is installed."""

from nnlo.optimize.plots.pictures import draw
from nnlo.optimize.plots.view import View

__all__ = ["View", "draw"]
