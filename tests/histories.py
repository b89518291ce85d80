"""Histories for tests of what is made of them."""

from __future__ import annotations

from typing import Any


def history(
    epochs: int, metrics: tuple[str, ...] = ("acc",), validated: bool = True, points: int = 1
) -> dict[str, Any]:
    """Of two workers: figures are 1/epoch, those of validation 2/epoch; `points` validations an epoch."""
    names = ("loss", *metrics)
    entries = [
        {
            "epoch": epoch,
            **dict.fromkeys(names, 1.0 / epoch),
            **({f"val_{name}": 2.0 / epoch for name in names} if validated else {}),
            "seconds": 2.0 * epoch,
            "samples": 200 * epoch,
            "updates": 4,
            "refused": 0,
            "staleness": {"mean": 1.0, "max": 2, "histogram": [1, 2, 1]},
            "bytes_up": 3 * 2**20,
            "bytes_down": 5 * 2**20,
            "samples_per_second": 100.0,
            "lr": 0.1,
            "ranks": {
                "1": {"samples": 80, "updates": 1, "samples_per_second": 40.0, "busy_seconds": 0.5},
                "2": {"samples": 120, "updates": 3, "samples_per_second": 60.0, "busy_seconds": 1.5},
            },
        }
        for epoch in range(1, epochs + 1)
    ]
    times = range(1, epochs * points + 1)
    validations = [
        {"epoch": i / points, "seconds": 2.0 * i / points, "samples": 200 * i / points, "val_loss": 3.0, "val_acc": 0.5}
        for i in times
    ]
    return {"model": "m", "trial": "t", "epochs": entries, "validations": validations if validated else []}
