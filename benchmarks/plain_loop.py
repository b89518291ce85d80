"""A plain torch training loop in one process: what nnlo is compared with. Prints its samples/s as JSON."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import h5py
import torch

from nnlo.data.lists import read_list
from nnlo.model import load_model


def in_memory(train_list: Path) -> tuple[torch.Tensor, torch.Tensor]:
    parts = []
    for name in read_list(train_list, "--train-data"):
        with h5py.File(name, "r", locking=False) as file:
            parts.append((torch.from_numpy(file["features"][:]), torch.from_numpy(file["labels"][:])))
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train-data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    x, y = in_memory(arguments.train_data)
    model = load_model("mnist").get_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr)
    began = time.perf_counter()
    for _ in range(arguments.epochs):
        for index in torch.randperm(len(x)).split(arguments.batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
    seconds = time.perf_counter() - began
    print(json.dumps({"samples_per_second": arguments.epochs * len(x) / seconds}))


if __name__ == "__main__":
    main()
