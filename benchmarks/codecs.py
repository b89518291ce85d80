"""Nanoseconds an element that each codec takes to encode and to decode a million of them, on one thread.

    python benchmarks/codecs.py --rounds 11 --out codecs.json

Each codec works on one tensor ("flat") and on the ten tensors of a small convolutional network ("network"), next to
a plain copy. It is processor time, which other processes do not lengthen by taking turns; rounds go over all of
them, and the table shows medians.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from paired import medians
from torch import nn

from nnlo.compress import CodecSpec, Compressor
from nnlo.flat import Layout

CODECS = ("fp16", "bf16", "sign", "bins:bits=2", "bins:bits=4", "bins:bits=8", "bins:bits=16", "topk:ratio=0.001",
          "topk:ratio=0.01", "topk:ratio=0.1", "qsgd:levels=7", "qsgd:levels=127", "powersgd:rank=2")  # fmt: skip
SHAPES = {
    "flat": ((1000, 1000),),
    "network": (
        (64, 3, 5, 5), (64,), (64, 64, 5, 5), (64,), (128, 64, 5, 5), (128,), (1280, 510), (1280,), (10, 1280), (10,),
    ),
}  # fmt: skip
Steps = dict[str, Callable[[], object]]


def layout_of(shapes: Sequence[tuple[int, ...]]) -> Layout:
    return Layout.of(nn.ParameterList(nn.Parameter(torch.zeros(shape)) for shape in shapes))


def steps_of(text: str, layout: Layout) -> tuple[Steps, int]:
    """What is measured of one codec, and its bytes. "send" is a sender's whole work, with feedback."""
    spec = CodecSpec.of(text)
    assert spec is not None
    codec = spec.build(layout)
    vector, out = torch.randn(layout.numel), torch.zeros(layout.numel)
    memory, state = torch.zeros(codec.nbytes, dtype=torch.uint8), codec.init(0)
    compressor = Compressor(codec, feedback=True, seed=0)
    return {
        "encode": partial(codec.encode, vector, memory, state),
        "decode": partial(codec.decode, memory, out),
        "send": partial(compressor.encode, vector, memory),
    }, codec.nbytes


def copies(layout: Layout) -> tuple[Steps, int]:
    """The same columns for a copy of the vector."""
    vector, out = torch.randn(layout.numel), torch.zeros(layout.numel)
    step = partial(out.copy_, vector)
    return {"encode": step, "decode": step, "send": step}, 4 * layout.numel


def nanoseconds(step: Callable[[], object], elements: int) -> float:
    """The last of three calls, which finds its memory as the one before has left it."""
    step()
    step()
    began = time.process_time()
    step()
    return 1e9 * (time.process_time() - began) / elements


def measure(rounds: int) -> dict[str, list[dict[str, float]]]:
    """{"codec layout": the figures of each round}."""
    contenders = {}
    for name, layout in ((name, layout_of(shapes)) for name, shapes in SHAPES.items()):
        for text in ("copy", *CODECS):
            steps, nbytes = copies(layout) if text == "copy" else steps_of(text, layout)
            contenders[f"{text} {name}"] = steps, nbytes, layout.numel
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (steps, nbytes, elements) in contenders.items():
            figures = {key: nanoseconds(step, elements) for key, step in steps.items()}
            found[name].append({"bytes": nbytes / elements, **figures})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(arguments.rounds)
    middle = medians(found)
    print(f"{'ns an element':32}" + "".join(f"{key:>10}" for key in ("bytes", "encode", "decode", "send")))
    for name, figures in middle.items():
        print(f"{name:32}" + "".join(f"{value:>10.3f}" for value in figures.values()))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"rounds": found, "medians": middle}, indent=1))


if __name__ == "__main__":
    main()
