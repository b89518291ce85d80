"""What surrounds the algorithms: the job, its record, its files and its callbacks."""
