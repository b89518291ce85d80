"""The command line: flags, prefixes, YAML, precedence, help and how a command ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nnlo.cli import Command, build, run
from nnlo.errors import DataError, OptionsError, TrainingError
from nnlo.launcher import RANK_VARIABLES, launched_rank
from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class First(Options):
    """First things.

    More about them.
    """

    target: str | None = option(None, help="what to do it to", positional=True)
    train_data: Path | None = option(None, help="list of files", metavar="LIST")
    trial_name: str = option("mine", help="a name, 100% yours")
    lr: float = option(0.1, help="rate", at_least=0)
    params: dict[str, Any] = option({}, help="settings")


@dataclass(frozen=True, kw_only=True)
class Second(Options):
    """Second things"""

    quick: bool = option(True, help="go fast")
    loud: bool = option(False, help="say more")
    level: str = option("low", help="level", choices=lambda: ("low", "high"))
    names: tuple[str, ...] = option(("a", "b"), help="names")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def command() -> Command:
    return Command("Tool", "Does it.", [First, Second], version="1.2", notes="Note this.")


def parsed(*argv: str) -> dict[str, Any]:
    return command().parse(argv)


def complaint(*argv: str) -> str:
    with pytest.raises(OptionsError) as caught:
        parsed(*argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_what_is_given_is_there() -> None:
    assert parsed() == {}
    assert parsed("--lr", "2", "thing", "--loud") == {"lr": 2.0, "target": "thing", "loud": True}


@pytest.mark.parametrize(
    "words", [["--train-data", "a_b"], ["--train_data", "a_b"], ["--train_data=a_b"], ["--trai", "a_b"], ["--trai=a_b"]]
)
def test_names_may_be_written_in_several_ways(words: list[str]) -> None:
    assert parsed(*words) == {"train_data": Path("a_b")}


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["--no-quick"], {"quick": False}),
        (["--quick"], {"quick": True}),
        (["--no_quick", "--quick"], {"quick": True}),
        (["--loud", "--no-loud"], {"loud": False}),
        (["--lr=-0"], {"lr": 0.0}),
        (["--names", "x,y"], {"names": ("x", "y")}),
        (["--level", "HIGH"], {"level": "high"}),
    ],
)
def test_switches_and_values(words: list[str], given: dict[str, Any]) -> None:
    assert parsed(*words) == given


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tr", "x"], "--tr is short for several options: choose one of --train-data, --trial-name"),
        (["--tiral_name", "x"], "unknown option --tiral-name: did you mean --trial-name?"),
        (["--zzz"], "unknown option --zzz: Tool --help lists the options"),
        (["-lr", "3"], "unexpected argument '-lr': did you mean --lr?"),
        (["one", "--lr", "2", "two"], "unexpected argument 'two': Tool --help lists the options"),
        (["one", "two"], "unexpected argument 'two': Tool --help lists the options"),
        (["--lr"], "--lr: expected one argument (see Tool --help)"),
        (["--lr", "x"], "--lr must be a number, not 'x'"),
        (["--lr", "-1"], "--lr must be at least 0, not -1.0"),
        (["--level", "mid"], "--level: unknown value 'mid': choose one of low, high"),
        (["--params", "a"], "--params: expected key=value,key=value or a JSON object, not 'a'"),
    ],
)
def test_wrong_words(words: list[str], message: str) -> None:
    assert complaint(*words) == message


@dataclass(frozen=True, kw_only=True)
class Several(Options):
    """Several things"""

    files: tuple[str, ...] = option((), help="what to read", metavar="FILE", positional=True)
    lr: float = option(0.1, help="rate")


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], {}),
        (["a,b"], {"files": ("a,b",)}),
        (["a", "--lr", "2", "b", "c"], {"files": ("a", "b", "c"), "lr": 2.0}),
        (["--lr", "2", "a", "b"], {"files": ("a", "b"), "lr": 2.0}),
    ],
)
def test_several_words_by_their_places(words: list[str], given: dict[str, Any]) -> None:
    assert Command("Tool", "Does it.", [Several]).parse(words) == given


def test_usage_of_several_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Command("Tool", "Does it.", [Several]).parse(["--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: Tool FILE... [options]\n") and "what to read\n" in text


def test_a_switch_takes_no_value() -> None:
    assert complaint("--loud=3").startswith("--loud")


def test_flags_win_over_the_file_over_the_model_over_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("lr: 1e-3\ntrial-name: filed\nloud: true\nparams: {a: 1}\n")
    given = parsed("--lr", "5", "--config", str(path), "--no-loud")
    assert given == {"lr": 5.0, "trial_name": "filed", "loud": False, "params": {"a": 1}}
    first = build(First, given, {"lr": 7.0, "trial_name": "model", "train_data": "model.list", "other": 3})
    assert (first.lr, first.trial_name, first.train_data, first.target) == (5.0, "filed", Path("model.list"), None)


def test_numbers_that_yaml_reads_as_texts(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("lr: 1e-3\nnames: [x, y]\n")
    assert parsed("--config", str(tmp_path / "run.yaml")) == {"lr": 1e-3, "names": ("x", "y")}


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("# later\n")
    assert parsed("--config", str(tmp_path / "run.yaml")) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"lr: [", "give a YAML file of options"),
        (b"lr: 3\nnames: [x, y\n", ": line 3, column 1: expected ',' or ']', but got '<stream end>': give a YAML file"),
        (b"\xff\xfe\x00", "not a text file: give a YAML file of options"),
        (b"- lr\n", "expected lines of the form 'option: value', not one list"),
        (b"lr 3\n", "expected lines of the form 'option: value', not one value 'lr 3'"),
        (b"trial_nam: 3\n", "unknown option 'trial_nam': did you mean trial_name?"),
        (b"zzz: 3\n", "unknown option 'zzz': Tool --help lists the options"),
        (b"config: other.yaml\n", "unknown option 'config'"),
        (b"lr: -3\n", "--lr must be at least 0, not -3.0"),
        (b"lr: much\n", "--lr must be a number, not 'much'"),
        (b"loud: maybe\n", "--loud must be true or false, not 'maybe'"),
        (b"trial_name: 2024-01-01\n", "--trial-name must be a text, not datetime.date(2024, 1, 1)"),
    ],
)
def test_wrong_files(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    message = complaint("--config", str(path))
    assert message.startswith(f"--config {path}: ") and said in message


def test_a_file_that_is_not_there() -> None:
    said = complaint("--config", "gone.yaml")
    assert said == "--config gone.yaml: No such file or directory: give a YAML file of options"


def test_what_a_model_brings_is_checked_in_its_name() -> None:
    with pytest.raises(OptionsError) as caught:
        command().checked({"batsch": 3}, "get_model.defaults")
    assert str(caught.value) == "get_model.defaults: unknown option 'batsch': Tool --help lists the options"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parsed("--help")
    text = capsys.readouterr().out
    assert left.value.code == 0
    assert text.startswith("usage: Tool TARGET [options]\n")
    assert text.index("First things:") < text.index("--train-data LIST") < text.index("Second things:")
    for part in ("100% yours (default mine)", "--quick, --no-quick", "one of low, high; default low", "(default a,b)"):
        assert part in text
    assert "--no-loud" not in text and "Note this." in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--version")
    assert capsys.readouterr().out == "Tool 1.2\n"


@pytest.mark.parametrize("name", RANK_VARIABLES)
def test_other_ranks_print_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "2")
    assert launched_rank() == 2
    with pytest.raises(SystemExit) as left:
        parsed("--help")
    with pytest.raises(SystemExit) as refused:
        run("Tool", lambda: raise_(OptionsError("no")))
    assert (left.value.code, refused.value.code) == (0, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code"), [(OptionsError("so\nnot"), 2), (DataError("so\nnot"), 2), (TrainingError("so\nnot"), 1)]
)
def test_an_error_is_one_line_and_an_exit_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run("Tool", lambda: raise_(error))
    assert left.value.code == code
    assert capsys.readouterr() == ("", "Tool: so not\n")


def test_a_defect_keeps_its_traceback_and_success_is_0() -> None:
    with pytest.raises(ZeroDivisionError):
        run("Tool", lambda: raise_(ZeroDivisionError()))
    with pytest.raises(SystemExit) as left:
        run("Tool", lambda: None)
    assert left.value.code == 0


def raise_(error: Exception) -> None:
    raise error
