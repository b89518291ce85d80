"""What nnlo is compared with: each module is a command that trains a workload once and prints its seconds as JSON."""
