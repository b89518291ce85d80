"""Ready-made callbacks that write down how a training goes."""

from nnlo.training.loggers.csv_logger import CSVLogger
from nnlo.training.loggers.jsonl_logger import JSONLinesLogger
from nnlo.training.loggers.learning_rate import LearningRateMonitor
from nnlo.training.loggers.tensorboard import TensorBoard

__all__ = ["CSVLogger", "JSONLinesLogger", "LearningRateMonitor", "TensorBoard"]
