"""Several trainings under the same conditions, described in one file, and what became of them side by side."""
