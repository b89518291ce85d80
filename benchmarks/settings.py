"""The settings of each mode for MNIST by the number of workers, as flags of `TrainingDriver`.

Every worker takes batches of the same size, whatever their number, and all workers together see the same samples: with
more workers there are fewer steps of each, and with synchronous modes fewer steps at all. What is adapted to that:

- synchronous steps: the rate rises with the square root of the number of workers;
- asynchronous steps by Adam: the rate falls with that square root above four workers, since gradients get older;
- local steps: an exchange every 4 or 8 batches, which leaves 14 of them to each of 16 workers.
"""

from __future__ import annotations

from collections.abc import Callable

BATCH, EPOCHS, WORKERS = 64, 2, (2, 4, 8, 16)


def larger(rate: float, workers: int) -> str:
    """`rate` is for one worker."""
    return f"{rate * workers**0.5:.2g}"


def smaller(rate: float, workers: int) -> str:
    """`rate` is for up to four workers."""
    return f"{rate * min(1.0, 2 / workers**0.5):.2g}"


SETTINGS: dict[str, Callable[[int], str]] = {
    "downpour": lambda m: f"--lr {smaller(2e-3, m)}",
    "downpour --synchronous": lambda m: f"--synchronous --lr {larger(2e-3, m)}",
    "allreduce": lambda m: f"--mode allreduce --lr {larger(2e-3, m)}",
    "easgd": lambda m: "--mode easgd --elastic-lr 0.1 --elastic-momentum 0.9 --sync-every 4",
    "gem": lambda m: "--mode gem --gem-lr 0.05",
    "local": lambda m: "--mode local --worker-optimizer nesterov --worker-optimizer-params lr=0.05 --sync-every 8",
    "local (DiLoCo)": lambda m: (
        f"--mode local --worker-optimizer adamw --worker-optimizer-params lr={larger(1e-3, m)} --sync-every 8 "
        "--outer-lr 0.7 --outer-momentum 0.9 --nesterov-outer"
    ),
    "sign": lambda m: f"--mode sign --lr {larger(1e-3, m)}",
    "vote": lambda m: f"--mode vote --lr {larger(5e-4, m)}",
    "dsgd": lambda m: f"--mode dsgd --lr {larger(0.1, m)}",
    "dsgt": lambda m: f"--mode dsgt --lr {larger(0.1, m)}",
    "dinno": lambda m: "--mode dinno",
    "choco, sign": lambda m: f"--mode choco --compress sign --choco-gamma 0.4 --lr {larger(0.1, m)}",
    "downpour, topk 1 %": lambda m: f"--compress topk:ratio=0.01 --lr {smaller(2e-3, m)}",
    "downpour, qsgd": lambda m: f"--compress qsgd --lr {smaller(2e-3, m)}",
    "downpour, sign": lambda m: f"--compress sign --lr {smaller(2e-3, m)}",
    "downpour, qsgd, both ways": lambda m: f"--compress qsgd --compress-down qsgd --lr {smaller(2e-3, m)}",
    "downpour, sign, both ways": lambda m: f"--compress sign --compress-down sign --lr {smaller(2e-3, m)}",
    "allreduce, powersgd": lambda m: f"--mode allreduce --compress powersgd --lr {larger(2e-3, m)}",
}
