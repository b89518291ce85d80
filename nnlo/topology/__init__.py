"""Who is what among the ranks of a job: integers only, so that all of it can be tested."""

from nnlo.topology.blocks import Blocks
from nnlo.topology.tree import Node, Role, Topology, check_counts

__all__ = ["Blocks", "Node", "Role", "Topology", "check_counts"]
