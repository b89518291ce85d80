"""The documentation is whole: flags and links exist, tables are up to date, the site loads from nowhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from docs.pictures import design
from nnlo.cli import Command
from nnlo.manual import command_of, filled, tables
from tests.pages import Reader, blocks_of, is_in

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
DRIVERS = list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])
WRONG = {"--epoch", "--learning-rate", "--no"}
"""What pages write that is no flag: two that are misspelt, and the beginning of `--no-NAME`."""
ELSEWHERE = {"--out", "--shapes", "--with-ft"}
"""Flags of the benchmarks."""


def known(command: Command) -> set[str]:
    return {option for action in command.parser._actions for option in action.option_strings}


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_exists(page: str) -> None:
    text = re.sub(r"<!--.*?-->|^#SBATCH.*$", "", PAGES[page], flags=re.MULTILINE)
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))
    assert flags - WRONG - ELSEWHERE <= set().union(*(known(command_of(name)) for name in DRIVERS))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_one_that_is_run_or_says_why_not(page: str) -> None:
    blocks = blocks_of(PAGES[page])
    assert len(blocks) * 2 == len(re.findall(r"^ *```", PAGES[page], re.MULTILINE))
    for block in blocks:
        assert block.language in ("sh", "python", "text")
        assert block.mark is None or re.fullmatch(r"says|not run|exits [12]", block.mark)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        assert not re.match(r"\w+:", target), f"{target} is on another host"
        name, _, anchor = target.partition("#")
        path = (DOCS / page).parent / name if name else DOCS / page
        assert path.is_file(), target
        assert not anchor or anchor in anchors(path.read_text()), target


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w]+", "-", title.lower()).strip("-") for title in titles}


@pytest.mark.parametrize("path", ["README.md", "docs/reference/options.md"])
def test_tables_of_options_are_up_to_date(path: str) -> None:
    text = (ROOT / path).read_text()
    assert "<!-- options TrainingDriver -->" in text
    assert text == filled(text), "make options writes them anew"


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_table_has_every_option_once(driver: str) -> None:
    table, command = tables(command_of(driver)), command_of(driver)
    shown = [action for action in command.parser._actions if action.help != "==SUPPRESS=="]
    assert len(re.findall(r"^\| (?!option|---)", table, re.MULTILINE)) == len(shown)
    for action in shown:
        for option in action.option_strings:
            assert len(re.findall(rf"`{option}[ `]", table)) == 1


def test_what_a_table_says() -> None:
    table = tables(command_of("TrainingDriver"))
    assert "| `--batch N` | `100` | samples in a worker's batch |" in table
    assert "| `--seed N` | `0` |" in table
    assert "| `--fused`, `--no-fused` | on |" in table
    assert "| `--overwrite` |  | replace files of the same names |" in table
    assert re.search(r"`--wait WAIT` \| `sleep` \|[^|]*; one of `sleep`, `spin` \|", table)
    assert "'val_loss,&lt;,4'" in table


def test_only_what_is_between_the_markers_is_written() -> None:
    text = "before\n<!-- options GetData -->\nstale words\n<!-- /options -->\nafter\n"
    new = filled(text)
    assert new.startswith("before\n<!-- options GetData -->\n") and new.endswith("\n<!-- /options -->\nafter\n")
    assert "--dest" in new and "stale" not in new
    assert filled(new) == new


def test_the_pictures_of_the_design_are_up_to_date(tmp_path: Path) -> None:
    design.main(tmp_path)
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert len(drawn) == 6
    for name, picture in drawn.items():
        assert (DOCS / "pictures" / name).read_text() == picture, "python -m docs.pictures.design draws them anew"
        assert f"(pictures/{name})" in PAGES["design.md"]


def test_what_docstrings_say_of_parameters_becomes_a_list() -> None:
    pytest.importorskip("griffe")
    from docs.docstrings import listed

    text = "A job.\n\nsize: how many; rate, `speed`: how fast. Says more: it is. Raises OptionsError for none."
    items = listed(text, ["size", "rate", "speed"]).split("\n\n")
    assert [item for item in items if item] == [
        "A job.",
        "- `size`: how many",
        "- `rate`, `speed`: how fast. Says more: it is.",
        "Raises OptionsError for none.",
    ]
    assert listed("more: less.", ["size"]) == "more: less."


# The runner of the pages: it notices what goes wrong.

PAGE = """
```python title="mine.py"
value = 3
```

```sh
python -c "import mine; print('it is', mine.value)"
```

<!-- says -->
```text
it ... 3
```

```python
import mine
assert mine.value == 3
```
"""


def follow(folder: Path, text: str) -> None:
    (folder / "page.md").write_text(text)
    Reader(folder).follow(folder / "page.md")


def test_a_page_is_followed(tmp_path: Path) -> None:
    assert [block.language for block in blocks_of(PAGE)] == ["python", "sh", "text", "python"]
    follow(tmp_path, PAGE)
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("it ... 3", "it is 4"),
        ("assert mine.value == 3", "assert mine.value == 4"),
        ("print('it is', mine.value)", "raise SystemExit(2)"),
        ("```sh", "<!-- exits 1 -->\n```sh"),
        ("value = 3", "value = 4"),
        ("<!-- says -->", "<!-- says -->\n```text\nno\n```"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(old: str, new: str, tmp_path: Path) -> None:
    assert old in PAGE
    with pytest.raises(AssertionError):
        follow(tmp_path, PAGE.replace(old, new))


def test_parts_of_a_line() -> None:
    assert is_in("a ... c", "x a b  c y") and is_in("a b", "a  b")
    assert not is_in("a ... c", "a\nc") and not is_in("a.c", "abc")


# The site.

LOADING = {"src", "srcset", "poster", "data"}


class Loads(HTMLParser):
    """What a browser fetches for a page, without a click."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.found += [values[name] for name in LOADING & values.keys()]
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(values.get("href", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not find_spec("mkdocs"):
        pytest.skip("no mkdocs: pip install '.[docs]' -c constraints.txt")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_is_built(site: Path) -> None:
    for page in PAGES:
        assert (site / page).with_suffix(".html").is_file()
    python = (site / "reference" / "python.html").read_text()
    for name in (
        "MPIManager",
        "Algo",
        "ModelBuilder",
        "ModelPytorch",
        "Data",
        "H5Data",
        "Callback",
        "Schedule",
        "Costs",
    ):
        assert f'class="doc doc-object-name doc-class-name">{name}<' in python


def test_no_page_loads_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    for page in pages:
        parser = Loads()
        parser.feed(page.read_text())
        assert parser.found
        assert [url for url in parser.found if re.match(r"(https?:)?//", url)] == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()[\s\"']*(https?:)?//", style.read_text()), style
