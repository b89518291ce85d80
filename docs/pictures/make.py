"""Makes the tutorial's pictures anew, by following it: python -m docs.pictures.make (from the checkout, in .venv)."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from tests.pages import Reader

PICTURES = Path(__file__).parent
PAGE = PICTURES.parent / "tutorial.md"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Reader(Path(folder), {"MPLBACKEND": "Agg"}).follow(PAGE)
        for name in re.findall(r"\(pictures/(\S+\.png)\)", PAGE.read_text()):
            shutil.copy(Path(folder) / name, PICTURES / name)


if __name__ == "__main__":
    main()
