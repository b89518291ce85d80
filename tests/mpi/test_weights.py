"""Weights over real mpirun: rank 0 exports and evaluates them, and all ranks leave alike."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from nnlo.data.prepare import prepare
from tests.mpi.launch import Result, launch


def test_a_run_is_exported_and_evaluated(tmp_path: Path) -> None:
    prepare("digits", tmp_path / "data")

    def driver(*flags: str) -> Result:
        command = ["TrainingDriver", "--model", "mnist", "--log-level", "warning", *flags]
        return launch(2, command, mpi="mpich", timeout=100, cwd=tmp_path, env={"NNLO_DATA": str(tmp_path / "data")})

    first = driver("--epochs", "1", "--trial-name", "a", "--export", "torchscript")
    assert first.code == 0, first
    (*_, last) = json.loads((tmp_path / "mnist_a_history.json").read_text())["epochs"]
    assert torch.jit.load(tmp_path / "mnist_a_model.torchscript.pt")(torch.rand(3, 28, 28, 1)).shape == (3, 10)
    told = f"val_loss {last['val_loss']:.4f}, val_acc {last['val_acc']:.4f}"

    files = sorted(tmp_path.iterdir())
    evaluated = driver("--evaluate", "mnist_a_weights.safetensors")
    assert (evaluated.code, evaluated.stdout) == (0, f"mnist: {told} (mnist_a_weights.safetensors)\n"), evaluated
    refused = driver("--evaluate", "mnist_a_weights.pt", "--model-params", "dense=9")
    assert refused.code == 2 and refused.stderr.count("dense.weight is (50, 320) there") == 1, refused
    assert sorted(tmp_path.iterdir()) == files
