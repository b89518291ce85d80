"""Trained weights on their way from a block to the coordinator, which writes the best ones."""

from __future__ import annotations

import io

import torch
from safetensors.torch import save
from torch import Tensor, nn

from nnlo.training.atomic import replacing
from nnlo.training.checkpoint.parcel import packed, unpacked
from nnlo.training.weight_files import WeightFiles, detached, untied


def packed_weights(module: nn.Module) -> bytes:
    """Both files of `nnlo.training.weight_files`, as one message."""
    state, plain = detached(module), io.BytesIO()
    torch.save(state, plain)
    files = {"safetensors": save(untied(state), metadata={"format": "pt"}), "pt": plain.getvalue()}
    return packed({name: as_tensor(data) for name, data in files.items()})


def write_packed(paths: WeightFiles, message: bytes) -> None:
    """Write the files as they came; nothing in them is looked at. Raises DataError."""
    files = unpacked(message, "a block")
    for path, data in ((paths.safetensors, files["safetensors"]), (paths.pt, files["pt"])):
        with replacing(path) as scratch:
            scratch.write_bytes(data.numpy().tobytes())


def as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
