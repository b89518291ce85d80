"""Peak memory of a worker when the file list is ten times as long.

    python benchmarks/memory.py --source ../shared/data/mnist

One epoch over MNIST's pieces, and one over a list that names each of them ten times; both again with blocks preloaded.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import tempfile
from pathlib import Path

from nnlo.data.lists import read_list
from nnlo.data.prepare import prepare


def peaks(names: list[str], preload: int) -> dict[str, int]:
    """Bytes by rank after one epoch over these files, `preload` blocks read ahead."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "train.list"
        listed.write_text("\n".join(names))
        command = ["mpirun", "-np", "3", "TrainingDriver", "--train-data", str(listed), "--model", "mlp"]
        flags = ["--epochs", "1", "--output", folder, "--preload-data", str(preload)]
        subprocess.run([*command, *flags], check=True, capture_output=True, timeout=600)
        history = json.loads(next(Path(folder).glob("*_history.json")).read_text())
    found: dict[str, int] = history["peak_memory_bytes"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of MNIST's IDX files")
    names = read_list(prepare("mnist", source=parser.parse_args().source).train_list, "--train-data")
    for preload, times in itertools.product((0, 2), (1, 10)):
        found = peaks(names * times, preload)
        shown = ", ".join(f"rank {rank} {size / 2**20:.0f} MiB" for rank, size in found.items())
        print(f"{times * len(names):4} files, {preload} blocks preloaded: {shown}", flush=True)


if __name__ == "__main__":
    main()
