"""Times as options give them: 90s, 10m, 2h."""

from __future__ import annotations

import re

from nnlo.errors import OptionsError

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(flag: str, text: str) -> float:
    """Raises OptionsError for what is no time, or none at all."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not found or not float(found[1]):
        raise OptionsError(f"{flag} {text!r}: give a time, as 90s, 10m or 2h")
    return float(found[1]) * SECONDS[found[2]]
