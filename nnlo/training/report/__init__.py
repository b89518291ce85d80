"""A run as one HTML page that needs nothing else: no network, no script, no picture files."""

from nnlo.training.report.page import page, write_report

__all__ = ["page", "write_report"]
