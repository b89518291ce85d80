"""Callbacks: the base class, the ready-made ones, and loading one by name."""

from nnlo.training.callback_arguments import load_callback
from nnlo.training.callbacks import Callback
from nnlo.training.loggers import CSVLogger, JSONLinesLogger, LearningRateMonitor, TensorBoard
from nnlo.training.save_best import SaveBest

__all__ = [
    "CSVLogger",
    "Callback",
    "JSONLinesLogger",
    "LearningRateMonitor",
    "SaveBest",
    "TensorBoard",
    "load_callback",
]
