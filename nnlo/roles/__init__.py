"""The event loops: what each rank does, written once for every transport."""
