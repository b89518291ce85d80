"""Distributed training of torch models over MPI."""

from nnlo import collector, excepthook  # noqa: F401  torch comes by way of the collector
from nnlo.data import Data, H5Data
from nnlo.manager import MPIManager
from nnlo.model import ModelBuilder, ModelPytorch
from nnlo.training.algo import Algo
from nnlo.training.callbacks import Callback
from nnlo.version import __version__

__all__ = ["Algo", "Callback", "Data", "H5Data", "MPIManager", "ModelBuilder", "ModelPytorch", "__version__"]

excepthook.install()
