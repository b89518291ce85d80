"""How ranks exchange and wait: one interface, over MPI and in one process on a virtual clock."""
