"""Who is what among the ranks of a job: integers only, so that all of it can be tested."""

from nnlo.topology.tree import Node, Role, Topology, check_counts

__all__ = ["Node", "Role", "Topology", "check_counts"]
