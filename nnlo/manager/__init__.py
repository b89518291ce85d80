"""MPIManager: makes rank 0 the master and the others workers, and trains."""

from nnlo.manager.manager import MPIManager

__all__ = ["MPIManager"]
