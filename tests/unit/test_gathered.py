"""Texts of many ranks as one."""

from __future__ import annotations

import pytest

from nnlo.comm.gathered import framed, unframed


@pytest.mark.parametrize("parts", [[], [b""], [b"a", b"", b"bc"], [bytes(range(256))] * 3], ids=len)
def test_texts_come_back(parts: list[bytes]) -> None:
    assert unframed(framed(parts)) == parts
