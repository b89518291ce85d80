"""Reports for tests, and what a browser would read of them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from nnlo.training.report import page
from tests.histories import history

VOID = {"meta", "link", "br", "img"}
EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Tags that are opened and closed in order, the texts between them, and all attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []


def full(epochs: int = 3, **changes: Any) -> dict[str, Any]:
    run = {
        **history(epochs),
        "outcome": "done",
        "started": "2026-01-31T12:00:00+00:00",
        "arguments": {"mode": "downpour", "batch": 50, "optimizer": {"name": "adam", "lr": 0.5}, "overwrite": True},
        "seed": 4321,
        "ranks": 3,
        "hosts": ["alpha", "alpha", "beta"],
        "versions": {"torch": "2.99"},
        "parameters": 21840,
        "train_data": "train.list",
        "peak_memory_bytes": {"0": 3 * 2**20, "1": 7 * 2**20},
    }
    return {**run, **changes}


def read(run: dict[str, Any]) -> Reader:
    return Reader(page(run))


def rows(run: dict[str, Any]) -> list[str]:
    """The cells of each table row, without the marks between them."""
    found = re.findall(r"<tr>(.*?)</tr>", page(run), re.DOTALL)
    return [" ".join(Reader(row).texts) for row in found]
