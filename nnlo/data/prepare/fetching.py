"""pooch, which downloads data sets, where it is installed."""

from __future__ import annotations

import logging
from typing import Any

from nnlo.errors import OptionsError


def import_pooch(data_set: str, files: str) -> Any:
    """The module, which says nothing unless something is wrong. Raises OptionsError where it is not there."""
    try:
        import pooch
    except ImportError:
        raise OptionsError(
            f"fetching {data_set} needs pooch: pip install pooch, or give {files} with --source"
        ) from None
    pooch.get_logger().setLevel(logging.WARNING)
    return pooch
