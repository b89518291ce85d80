"""The data path: files, lists, shuffling, dealing and feeds of batches."""

from nnlo.data.base import Data
from nnlo.data.h5 import H5Data

__all__ = ["Data", "H5Data"]
