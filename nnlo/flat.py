"""A torch module laid out in one arena: its parameters are one flat tensor, and so are its gradients.

An arena is one message: a 64-byte header, float64 sums (loss and metrics of the samples behind it), the
integer buffers, the float buffers (BatchNorm statistics) and, last, a vector (parameters, a gradient or
whatever an algorithm sends), all views of one piece of memory, so that nothing is packed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from nnlo.errors import OptionsError

HEADER_BYTES = 64
ALIGNMENT = 64


@dataclass(frozen=True)
class Slot:
    """Where one tensor of the module lies: `vector[offset : offset + size]`, in elements."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def view(self, vector: Tensor) -> Tensor:
        return vector[self.offset : self.offset + self.size].view(self.shape)


@dataclass(frozen=True)
class Layout:
    """Names, shapes and offsets of all that travels, the same on every rank of a job."""

    dtype: torch.dtype
    parameters: tuple[Slot, ...]
    buffers: tuple[Slot, ...]
    counters: tuple[Slot, ...]
    digest: str

    @property
    def numel(self) -> int:
        """The number of parameters that are trained."""
        return total(self.parameters)

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """The layout of a module: tied parameters once, frozen ones left out.

        Raises OptionsError for what one float vector cannot hold.
        """
        trained = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        if not trained:
            raise OptionsError("the model has no parameter to train (every one has requires_grad=False)")
        dtype = trained[0][1].dtype
        floats = [(n, b) for n, b in module.named_buffers() if b.is_floating_point() or b.is_complex()]
        for name, tensor in [*trained, *floats]:
            check_tensor(name, tensor, dtype)
        counters = [(n, b) for n, b in module.named_buffers() if not b.is_floating_point()]
        slots = (slots_of(trained), slots_of(floats), slots_of(counters))
        return cls(dtype, *slots, digest(dtype, slots, module))


def check_tensor(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    if isinstance(tensor, (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)):
        raise OptionsError(f"'{name}' of the model has no shape yet: run one batch through it in build_model()")
    if tensor.dtype != dtype or not tensor.is_floating_point():
        raise OptionsError(f"'{name}' of the model is {tensor.dtype}, others are {dtype}: use one float type for all")


def slots_of(tensors: Sequence[tuple[str, Tensor]]) -> tuple[Slot, ...]:
    slots, offset = [], 0
    for name, tensor in tensors:
        slots.append(Slot(name, tuple(tensor.shape), offset))
        offset += tensor.numel()
    return tuple(slots)


def total(slots: tuple[Slot, ...]) -> int:
    return slots[-1].offset + slots[-1].size if slots else 0


def digest(dtype: torch.dtype, slots: tuple[tuple[Slot, ...], ...], module: nn.Module) -> str:
    """A fingerprint of names, shapes and the frozen values: ranks that differ in it built different models."""
    names = [[(s.name, s.shape) for s in group] for group in slots]
    state = hashlib.sha256(json.dumps([str(dtype), names]).encode())
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            state.update(
                name.encode() + parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            )
    return state.hexdigest()[:16]


class Arena:
    """One message over `storage`, a uint8 tensor of `Arena.nbytes(layout, sums, encoded)` bytes.

    Where `encoded` is a number of bytes, they stand in the vector's stead, and there is no `vector`.
    """

    vector: Tensor

    def __init__(self, layout: Layout, sums: int, storage: Tensor, encoded: int | None = None) -> None:
        self.layout, self.storage = layout, storage
        self.header = storage[:HEADER_BYTES]
        views = [
            storage[start : start + count * dtype.itemsize].view(dtype)
            for start, count, dtype in sections(layout, sums, encoded)
        ]
        self.sums, self.counters, self.buffers, self.payload = views
        if encoded is None:
            self.vector, self.payload = self.payload, self.payload.view(torch.uint8)

    @cached_property
    def memory(self) -> memoryview:
        """All of it, for what is written or read by number."""
        return self.storage.numpy().data

    @staticmethod
    def nbytes(layout: Layout, sums: int, encoded: int | None = None) -> int:
        start, count, dtype = list(sections(layout, sums, encoded))[-1]
        return start + aligned(count * dtype.itemsize)

    @staticmethod
    def sums_end(sums: int) -> int:
        """The bytes up to the end of the sums, which can be sent alone."""
        return HEADER_BYTES + aligned(sums * torch.float64.itemsize)

    def copy_buffers(self, other: Arena) -> None:
        """Take over float and integer buffers."""
        self.buffers.copy_(other.buffers)
        self.counters.copy_(other.counters)

    def copy_body(self, other: Arena) -> None:
        """Take over all but the header."""
        self.storage[HEADER_BYTES:].copy_(other.storage[HEADER_BYTES:])


def sections(layout: Layout, sums: int, encoded: int | None) -> Iterator[tuple[int, int, torch.dtype]]:
    """Start in bytes, number of elements and type of the four parts behind the header."""
    start = HEADER_BYTES
    last = (layout.numel, layout.dtype) if encoded is None else (encoded, torch.uint8)
    parts = ((sums, torch.float64), (total(layout.counters), torch.int64), (total(layout.buffers), layout.dtype), last)
    for count, dtype in parts:
        yield start, count, dtype
        start += aligned(count * dtype.itemsize)


def aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Flat:
    """A module whose parameters and float buffers lie in memory that is handed in.

    `vector` has `layout.numel` elements, `buffers` as many as the module's float buffers; each may be a part of an
    arena. The module's values are kept; where others have the `vector` too, `adopts`, those of the vector are.
    """

    def __init__(
        self, module: nn.Module, layout: Layout, vector: Tensor, buffers: Tensor, adopts: bool = False
    ) -> None:
        self.module, self.layout = module, layout
        self.vector, self.buffers = vector, buffers
        self._floats = [(*owner_of(module, slot.name), slot.view(buffers)) for slot in layout.buffers]
        self._counters = [(*owner_of(module, slot.name), slot) for slot in layout.counters]
        parameters = [p for _, p in module.named_parameters() if p.requires_grad]
        for parameter, slot in zip(parameters, layout.parameters, strict=True):
            parameter.data = slot.view(vector) if adopts else placed(parameter.data, slot.view(vector))
        for owner, name, place in self._floats:
            buffer = getattr(owner, name)
            buffer.data = placed(buffer.data, place)

    def gather(self, counters: Tensor) -> None:
        """Copy the integer buffers to `counters` (int64), and see that `buffers` holds the float ones.

        Most modules change a buffer in place; one that puts a new tensor in its stead gets the place back.
        """
        for owner, name, slot in self._counters:
            slot.view(counters).copy_(getattr(owner, name))
        for owner, name, place in self._floats:
            current = getattr(owner, name)
            if current.data_ptr() != place.data_ptr():
                setattr(owner, name, placed(current.detach(), place))

    def write_counters(self, counters: Tensor) -> None:
        for owner, name, slot in self._counters:
            getattr(owner, name).copy_(slot.view(counters))

    def load(self, vector: Tensor, buffers: Tensor, counters: Tensor) -> None:
        """Take over another rank's weights and buffers."""
        self.vector.copy_(vector)
        self.buffers.copy_(buffers)
        self.write_counters(counters)


def owner_of(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The submodule that holds a buffer, and the buffer's name there."""
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def finite(vector: Tensor) -> bool:
    """Whether no element is inf or nan: a sum tells in one pass, unless finite values overflow it."""
    return math.isfinite(vector.sum().item()) or bool(torch.isfinite(vector).all())


def placed(value: Tensor, place: Tensor) -> Tensor:
    return place.copy_(value)
