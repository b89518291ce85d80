"""Numbers as people read them: sensible digits, and a unit."""

from __future__ import annotations

import math
from collections.abc import Iterable

DASH = "–"  # noqa: RUF001
"""In the place of what is not known."""

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def known(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def figure(value: float) -> str:
    """A loss or metric: 0.1850, 12.35, 1.2e-05."""
    if not known(value):
        return DASH
    size = abs(value)
    return f"{value:.2e}" if size >= 1e5 or 0 < size < 1e-3 else f"{value:#.4g}".rstrip(".")


def count(value: float) -> str:
    return f"{value:,.0f}" if known(value) else DASH


def rate(value: float) -> str:
    """A number a second, without the unit: 11,646 or 3.2."""
    return DASH if not known(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def seconds(value: float) -> str:
    """0.66 s, 12.3 s, 4 min 05 s, 2 h 03 min."""
    if not known(value):
        return DASH
    if value < 100:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02d} min"


def size(value: float) -> str:
    """640 B, 2.42 MiB."""
    if not known(value):
        return DASH
    name, unit = size_unit(value)
    return f"{value:.0f} B" if unit == 1 else f"{value / unit:.3g} {name}"


def size_unit(value: float) -> tuple[str, int]:
    """What such a size is shown in: KiB and 1024, for example."""
    power = 0
    while abs(value) >= 1000 * 1024**power and power < len(UNITS) - 1:
        power += 1
    return UNITS[power], 1024**power


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if known(part) and known(whole) and whole > 0 else DASH


def times(names: Iterable[object]) -> str:
    """Equal names that follow one another, counted: a, b (3 times)."""
    counts: dict[str, int] = {}
    for name in names:
        counts[str(name)] = counts.get(str(name), 0) + 1
    return ", ".join(f"{name} ({number} times)" if number > 1 else name for name, number in counts.items())


def plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"
