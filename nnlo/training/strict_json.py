"""Strict JSON, which any reader takes: numbers that are not finite, for which it has no form, are null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def strict(value: Any) -> Any:
    """`value` in terms that JSON knows: NaN and infinities are None, numpy's and torch's numbers plain ones.

    What JSON has no form for is turned into text.
    """
    if isinstance(value, Mapping):
        return {str(key): strict(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "tolist"):
        return strict(value.tolist())
    return str(value)


def dumps(document: Mapping[str, Any]) -> str:
    """`document` as JSON for machines and for eyes: a line for each key, and for each object in a list of objects."""
    lines = [f" {encode(str(key))}: {section(value)}" for key, value in strict(document).items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def section(value: Any) -> str:
    """A plain value; a list of objects takes a line for each."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return "[\n" + ",\n".join(f"  {encode(one)}" for one in value) + "\n ]"
    return encode(value)


def encode(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
