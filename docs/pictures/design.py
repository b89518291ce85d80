"""Draws the pictures of docs/design.md: python -m docs.pictures.design (from the checkout, in .venv)."""

from __future__ import annotations

from pathlib import Path

from docs.pictures.drawing import Picture
from docs.pictures.timelines import Update, asynchronous, synchronous
from nnlo.data.dealing import Dealer, Range

PICTURES = Path(__file__).parent
COLORS = ("first", "second", "third")


def roles() -> Picture:
    picture = Picture("A master and three workers", 300)
    picture.named(190, 24, 180, 58, "", "master")
    picture.text(280, 48, "master (rank 0)", "middle on strong")
    picture.text(280, 68, "weights, optimizer, clock", "middle on")
    picture.named(420, 24, 120, 34, "validation")
    picture.named(420, 68, 120, 34, "history, weights")
    picture.arrow(370, 42, 418, 42)
    picture.arrow(370, 72, 418, 82)
    for i, kind in enumerate(COLORS):
        left = 60 + 165 * i
        picture.named(left, 170, 110, 44, f"worker {i + 1}", kind)
        picture.arrow(left + 45, 168, 225 + 40 * i, 84, "up")
        picture.arrow(243 + 40 * i, 84, left + 65, 168, "down")
        picture.arrow(left + 55, 248, left + 55, 216)
    picture.box(60, 250, 440, 32)
    picture.text(280, 271, "HDF5 files: any worker reads any of them")
    picture.arrow(24, 108, 46, 108, "up")
    picture.arrow(46, 126, 24, 126, "down")
    picture.text(54, 112, "gradients", "left small")
    picture.text(54, 130, "weights", "left small")
    return picture


def exchange() -> Picture:
    picture = Picture("One message is one piece of memory", 250)
    parts = (("header", 74, "aside"), ("sums", 62, "box"), ("counters", 74, "box"), ("buffers", 70, "box"))
    left = 20.0
    for name, width, kind in parts:
        picture.named(left, 46, width, 46, name, kind)
        left += width + 3
    picture.named(left, 46, 540 - left, 46, "gradient, or weights", "master")
    picture.text(20, 32, "one arena", "left strong")
    for x, words in (
        (57, "64 bytes"),
        (128, "loss,"),
        (199, "integers"),
        (274, "BatchNorm"),
        (430, "4 bytes a parameter"),
    ):
        picture.text(x, 110, words, "middle small")
    picture.text(128, 125, "metrics", "middle small")
    picture.line(57, 118, 57, 146)
    picture.box(20, 148, 520, 82, "empty")
    fields = (
        "kind and flags",
        "version of the weights",
        "samples behind it",
        "bytes",
        "batches: epoch, first, count",
        "busy time",
    )
    for i, words in enumerate(fields):
        picture.text((40, 196, 404)[i % 3], 176 + 34 * (i // 3), words, "left small")
    return picture


def draw_times(picture: Picture, top: float, updates: list[Update], scale: float, title: str, stale: bool) -> None:
    picture.text(20, top - 12, title, "left strong")
    left = 92.0
    for row, name in enumerate(("master", "worker 1", "worker 2", "worker 3")):
        middle = top + 13 + 32 * row
        picture.text(20, middle + 4.5, name, "left small")
        picture.line(left, middle, 540, middle)
    for step in {update.step: update for update in updates}.values():
        x = left + scale * step.applied
        picture.box(x - 7, top + 3, 7, 20, "master", 1.5)
    for update in updates:
        y = top + 32 * (update.worker + 1) + 2
        picture.line(left + scale * update.end - 2, y + 11, left + scale * update.applied - 4, top + 23, "up")
    for update in updates:
        x, width = left + scale * update.begin, scale * (update.end - update.begin)
        words = str(update.stale) if stale else ""
        picture.named(x, top + 32 * (update.worker + 1) + 2, width - 2, 22, words, COLORS[update.worker])


def times() -> Picture:
    picture = Picture("Time lines of an asynchronous and a synchronous training", 396)
    seconds, until, master = (1.0, 1.3, 2.2), 8.4, 0.14
    scale = 440 / (until + 0.3)
    draw_times(picture, 44, asynchronous(seconds, until, master), scale, "asynchronous: each update as it comes", True)
    picture.text(20, 192, "A number is the update's staleness: steps of the weights since it began.", "left small")
    draw_times(
        picture,
        238,
        synchronous(seconds, until, master),
        scale,
        "synchronous: one update of each worker together",
        False,
    )
    picture.text(20, 384, "Gaps are waiting.", "left small")
    picture.arrow(430, 380, 540, 380)
    picture.text(420, 384, "time", "right small")
    return picture


def ranges(batches: int) -> list[tuple[int, Range]]:
    """What the workers 0 to 2, of which the second is the slowest, are dealt in an epoch, in order."""
    dealer = Dealer([batches], range(3), epochs=2, grain=batches, unit=1, synchronous=False)
    busy, seconds, found = [0.0, 0.0, 0.0], (1.0, 1.7, 1.2), []
    while True:
        worker = busy.index(min(busy))
        dealt = dealer.grant(worker)
        if dealt is None or dealt.epoch:
            return found
        found.append((worker, dealt))
        busy[worker] += dealt.count * seconds[worker]


def dealing() -> Picture:
    picture = Picture("An epoch's batches, dealt in ranges", 262)
    picture.text(20, 30, "the samples of all files, numbered", "left strong")
    for i in range(4):
        picture.named(20 + 130 * i, 40, 126, 26, f"block {i}")
    picture.text(20, 96, "shuffled: blocks in random order, samples in random order in each", "left strong")
    for i, block in enumerate((2, 0, 3, 1)):
        picture.named(20 + 130 * i, 106, 126, 26, f"block {block}")
    picture.text(20, 162, "26 batches, dealt in ranges as workers ask for more", "left strong")
    left, width = 20.0, 516 / 25.5
    for worker, dealt in ranges(26):
        for batch in range(dealt.first, dealt.stop):
            short = 0.5 if batch == 25 else 1.0
            picture.box(left, 172, width * short - 2, 26, COLORS[worker], 2)
            left += width * short
        picture.line(20 + width * dealt.first, 204, left - 4, 204)
    picture.text(538, 220, "a short last one", "right small")
    for i, kind in enumerate(COLORS):
        picture.box(20 + 100 * i, 230, 14, 14, kind)
        picture.text(40 + 100 * i, 242, f"worker {i + 1}", "left small")
    return picture


def clock() -> Picture:
    picture = Picture("The master's clock counts samples; validation runs aside", 240)
    left, epoch = 92.0, 140.0
    picture.text(20, 32, "the clock: samples applied to the weights", "left strong")
    picture.arrow(left, 78, 540, 78)
    for i in range(4):
        x = left + epoch * i
        picture.line(x, 71, x, 85)
        picture.text(x, 64, ("0", "N", "2N", "3N")[i], "middle small")
    picture.text(20, 119, "training", "left small")
    for i in range(3):
        words, kind = ("not begun", "empty") if i == 2 else (f"epoch {i + 1}", "master")
        picture.named(left + epoch * i, 102, epoch - 3, 24, words, kind)
    picture.text(20, 165, "validation", "left small")
    for i in range(2):
        x = left + epoch * (i + 1)
        picture.line(x, 128, x, 148)
        picture.named(x, 148, 84, 24, f"of epoch {i + 1}", "aside")
    picture.arrow(left + epoch + 80, 174, left + epoch + 80, 198)
    picture.text(left + epoch + 80, 216, "decides: stop", "middle small")
    picture.arrow(left + 2 * epoch - 1, 198, left + 2 * epoch - 1, 130, "up")
    picture.text(left + 2 * epoch + 10, 216, "takes effect", "left small")
    return picture


def virtual() -> Picture:
    picture = Picture("Any number of ranks in one process, on a virtual clock", 252)
    picture.text(20, 30, "one process", "left strong")
    picture.box(20, 40, 196, 190, "empty", 6)
    for i, (words, kind) in enumerate(
        (("master", "master"), ("worker 1", "first"), ("worker 2", "second"), ("worker 8", "third"))
    ):
        picture.named(38, 54 + 42 * i + (8 if i == 3 else 0), 160, 30, words, kind)
    picture.text(118, 180, "...", "middle strong")
    picture.text(262, 30, "what comes next, by virtual time", "left strong")
    events = (
        ("0.0120 s", "worker 2: gradient done"),
        ("0.0121 s", "master: update is there"),
        ("0.0122 s", "worker 2: weights are there"),
        ("0.0150 s", "worker 8: gradient done"),
    )
    for i, (when, what) in enumerate(events):
        top = 46 + 36 * i
        picture.box(262, top, 278, 28)
        picture.text(274, top + 18.5, when, "left strong")
        picture.text(346, top + 18.5, what, "left small")
    picture.arrow(260, 60, 220, 60, "down")
    picture.text(262, 214, "Costs say when: compute time, latency,", "left small")
    picture.text(262, 230, "bandwidth, shared cores, faults.", "left small")
    picture.arrow(400, 200, 400, 186)
    return picture


def main(folder: Path = PICTURES) -> None:
    for draw in (roles, exchange, times, dealing, clock, virtual):
        (folder / f"{draw.__name__}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
