"""The report of a run: what it says, that nothing breaks out of it, and that a browser shows it."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nnlo.training.plots.series import Curve
from nnlo.training.report import page, text, write_report
from nnlo.training.report.charts import bars, lines
from nnlo.training.report.scale import Scale
from tests.reports import EVIL, Reader, full, read, rows

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_the_figures_are_there() -> None:
    texts = read(full()).texts
    assert texts[texts.index("Validation accuracy") + 1 :][:2] == ["0.6667", "best 2.000 at epoch 1"]
    assert texts[texts.index("Validation loss") + 1 :][:2] == ["0.6667", "its best value"]
    assert texts[texts.index("Samples per second") + 1 :][:2] == ["100", "50 a worker"]
    assert texts[texts.index("Time") + 1 :][:2] == ["6.00 s", "3 epochs"]
    assert texts[texts.index("Mean staleness") + 1 :][:2] == ["1", "largest 2"]
    assert "master and 2 workers on 2 hosts" in " ".join(texts)
    assert "Refused updates" not in texts


def test_what_each_worker_did() -> None:
    said = rows(full())
    assert "1 alpha 240 40 3 25 % 1.50 s 4.50 s – – 7 MiB" in said  # noqa: RUF001
    assert "2 beta 360 60 9 75 % 4.50 s 1.50 s – – –" in said  # noqa: RUF001
    assert [row for row in said if row.startswith("Up")] == ["Up, to the master 9 MiB 768 KiB 1.5 MiB/s"]
    assert "width:75.0%" in page(full())


def test_the_table_of_epochs() -> None:
    said = rows(full())
    assert (
        "epoch ends after samples updates loss acc val_loss val_acc staleness, mean (largest) samples/s up down" in said
    )
    assert "2 4.00 s 400 4 0.5000 0.5000 1.000 1.000 1.00 (2) 100 3 MiB 5 MiB" in said


def test_the_configuration() -> None:
    texts = read(full()).texts
    pairs = dict(itertools.pairwise(texts))
    wanted = {"--optimizer": "adam, lr 0.5", "--overwrite": "on", "seed": "4321", "parameters": "21,840"}
    wanted |= {"hosts": "alpha (2 times), beta", "torch": "2.99", "training data": "train.list"}
    wanted |= {"peak memory, rank 0": "3 MiB"}
    assert {name: pairs[name] for name in wanted} == wanted


def test_refused_updates_are_told() -> None:
    run = full()
    run["epochs"][1]["refused"] = 5
    texts = read(run).texts
    assert texts[texts.index("Refused updates") + 1] == "5"
    assert "refused" in texts and "late" not in texts


def test_late_updates_are_told_beside_their_worker() -> None:
    run = full()
    assert "Late updates" not in read(run).texts
    run["epochs"][1]["late"] = run["epochs"][1]["ranks"]["2"]["late"] = 4
    texts = read(run).texts
    assert texts[texts.index("Late updates") + 1] == "4"
    assert texts.count("late") == 2


def test_lost_workers_are_told() -> None:
    run = full()
    assert "Lost workers" not in read(run).texts
    run["lost"] = [{"rank": 2, "host": "a", "seconds": 3.25, "samples": 40}, {"rank": 1}]
    texts = read(run).texts
    place = texts.index("Lost workers")
    assert texts[place + 1] == "2" and "rank 2 after 3.25 s, rank 1 after \N{EN DASH}" in texts[place + 2]


def test_many_epochs_are_folded() -> None:
    assert "All 20 epochs" not in read(full(20)).texts
    assert "All 21 epochs" in read(full(21)).texts


def test_staleness_that_was_none_is_one_sentence() -> None:
    run = full()
    assert "Staleness by epoch" in read(run).texts
    for entry in run["epochs"]:
        entry["staleness"] = {"mean": 0.0, "max": 0, "histogram": [4]}
    texts = read(run).texts
    assert "Staleness by epoch" not in texts and any(said.startswith("It was 0 throughout") for said in texts)


def test_the_learning_rate_is_drawn_where_it_changed() -> None:
    run = full()
    assert "Learning rate" not in read(run).texts
    run["epochs"][2]["lr"] = 0.05
    assert "Learning rate" in read(run).texts and "lr" in read(run).texts


@pytest.mark.parametrize("key", ["model", "trial", "outcome", "train_data"])
def test_names_are_escaped(key: str) -> None:
    source = page(full(**{key: EVIL}))
    assert "script" not in Reader(source).tags and EVIL in Reader(source).texts


def test_names_deep_inside_are_escaped() -> None:
    run = full(hosts=["a", EVIL, "b"], versions={EVIL: EVIL}, arguments={EVIL: EVIL, "mode": EVIL})
    for entry in run["epochs"]:
        entry[f'val_{EVIL}"'] = 1.0
        entry["ranks"] = {f'"{EVIL}': entry["ranks"]["1"]}
    assert "script" not in read(run).tags


def test_nothing_is_fetched() -> None:
    seen = read(full())
    assert not {"script", "link", "img", "iframe", "object"} & set(seen.tags)
    assert not {"src", "href", "onload", "onclick"} & {name for name, _ in seen.attributes}
    assert not re.search(r"https?:|url\(|@import", page(full()))


def test_a_run_without_epochs_or_much_else_has_a_report() -> None:
    assert "The run ended before its first epoch did." in read({"epochs": [], "outcome": "failed: no"}).texts
    assert "Loss" in read({"epochs": [{"epoch": 1, "loss": None}, {"epoch": 2, "loss": 3.0}]}).texts
    assert read(full(arguments=None, hosts=None, seconds=None, versions=None)).tags


def test_it_is_written_whole(tmp_path: Path) -> None:
    write_report(tmp_path / "a" / "r.html", full())
    assert (tmp_path / "a" / "r.html").read_text(encoding="utf-8") == page(full())
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["r.html"]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (text.figure(0.18496), "0.1850"), (text.figure(1234.5), "1234"), (text.figure(1e-5), "1.00e-05"),
        (text.figure(float("nan")), text.DASH), (text.seconds(0.456), "0.46 s"), (text.seconds(99.94), "99.9 s"),
        (text.seconds(245.2), "4 min 05 s"), (text.seconds(7400), "2 h 03 min"), (text.size(640), "640 B"),
        (text.size(2537152), "2.42 MiB"), (text.size(2**60), f"{2**20:.3g} TiB"), (text.rate(11646.3), "11,646"),
        (text.rate(3.21), "3.21"), (text.percent(1, 3), "33 %"), (text.percent(1, 0), text.DASH),
        (text.times("aba"), "a (2 times), b"),
    ],
)  # fmt: skip
def test_numbers_have_sensible_digits_and_units(said: str, wanted: str) -> None:
    assert said == wanted


def test_ticks_are_round_and_few() -> None:
    assert Scale(0.0, 2.3, 0, 100).ticks() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert Scale(0.7, 3.3, 0, 100).ticks(8, whole=True) == [1.0, 2.0, 3.0]
    assert Scale(0.03, 2.5, 0, 100, True).ticks() == [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
    assert len(Scale(1e-9, 1e38, 0, 100, True).ticks()) < 12
    assert Scale(1.0, 100.0, 0.0, 50.0, True)(10.0) == pytest.approx(25.0)


def test_a_gap_parts_a_line_and_a_lonely_point_has_a_dot() -> None:
    values = [1.0, 2.0, float("nan"), 3.0, float("nan"), *[4.0] * 40]
    drawn = str(lines([(Curve("loss", [float(i) for i in range(len(values))], values), "training")], "Loss"))
    path = re.search(r'class="training" d="([^"]*)"', drawn)
    assert path and path[1].count("M") == 3
    assert re.findall("<title>(.*?)</title>", drawn) == ["loss, epoch 3: 3"]


def test_bars_of_many_values_are_shared() -> None:
    assert str(bars([1] * 100, "t", "staleness")).count("<rect") == 100
    shared = str(bars([1] * 101, "t", "staleness"))
    assert shared.count("<rect") == 51 and "staleness 2 to 3: 2 (2.0 %)" in shared


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")
@pytest.mark.parametrize("width", [420, 1200])
def test_a_browser_shows_it_without_a_complaint(width: int, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    load = {"seconds": [1.0, 2.0], "cpu_percent": [50.0, 100.0]}
    run = full(monitor=dict.fromkeys(map(str, range(9)), load), seeds={"model": 1}, stop_reason="enough")
    write_report(tmp_path / "r.html", run)
    quiet = ["quic", "background-networking", "component-update", "sync", "gpu"]
    flags = ["--headless", "--no-sandbox", "--no-first-run", "--enable-logging=stderr", "--hide-scrollbars"]
    shot = f"--screenshot={tmp_path / 'r.png'}", f"--window-size={width},2400", f"--user-data-dir={tmp_path / 'p'}"
    command = [str(CHROMIUM), *flags, *(f"--disable-{name}" for name in quiet), *shot, f"file://{tmp_path / 'r.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    picture = image.open(tmp_path / "r.png").convert("RGB")
    assert picture.size == (width, 2400)
    assert len(picture.getcolors(maxcolors=1 << 24)) > 100
