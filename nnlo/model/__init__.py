"""Models: building them, their losses and metrics, and what happens to a batch."""

from nnlo.model.builder import ModelBuilder, ModelPytorch
from nnlo.model.loading import user_code
from nnlo.model.losses import LOSSES, Loss, get_loss
from nnlo.model.metrics import METRICS, Metric, get_metric, get_metrics
from nnlo.model.precision import AMP, ScaledStep, check_amp, get_amp
from nnlo.model.source import ModelSource, load_model, ready_made
from nnlo.model.step import GradientStep, check_fit, evaluate, output_of
from nnlo.model.weights import load_weights

__all__ = [
    "AMP",
    "LOSSES",
    "METRICS",
    "GradientStep",
    "Loss",
    "Metric",
    "ModelBuilder",
    "ModelPytorch",
    "ModelSource",
    "ScaledStep",
    "check_amp",
    "check_fit",
    "evaluate",
    "get_amp",
    "get_loss",
    "get_metric",
    "get_metrics",
    "load_model",
    "load_weights",
    "output_of",
    "ready_made",
    "user_code",
]
