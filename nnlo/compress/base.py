"""What a codec is: a flat vector in, so many bytes out, known before it runs.

    codec = CodecSpec.of("topk:ratio=0.01").build(layout)
    memory = torch.zeros(codec.nbytes, dtype=torch.uint8)
    codec.encode(vector, memory, state)
    codec.decode(memory, out)

A codec knows the layout, so that it can work tensor by tensor; its state is a dictionary of tensors and numbers.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from nnlo.errors import OptionsError
from nnlo.flat import Layout
from nnlo.options import Options, flag_of, parse_params
from nnlo.registry import Registry

State: TypeAlias = "dict[str, Any]"
S = TypeVar("S", bound=Options)


class Codec(ABC, Generic[S]):
    """Turns vectors of shape (layout.numel,) and type layout.dtype into `nbytes` bytes, and back.

    `nbytes` is exact. `needs_feedback`: whether what encoding leaves out is kept for the next vector unless the
    user says otherwise. `types`: those of vectors that it takes.
    """

    Settings: ClassVar[type[Options]] = Options
    needs_feedback: ClassVar[bool] = True
    types: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)
    nbytes: int

    def __init__(self, settings: S, layout: Layout) -> None:
        """Raises OptionsError for settings that do not go with the layout."""
        if layout.dtype not in self.types:
            raise OptionsError(f"weights of {layout.dtype} cannot be compressed: build the model in float32 or float64")
        self.settings, self.layout = settings, layout

    def init(self, seed: int, feedback: bool = False) -> State:
        """What this sender keeps from one vector to the next; `seed` is of its own random stream.

        feedback: what encoding leaves out comes back with the next vector, so that it has to be less than the vector.
        """
        return {}

    @abstractmethod
    def encode(self, vector: Tensor, memory: Tensor, state: State) -> None:
        """Write `vector`, finite, which stays as it is, into `memory`, uint8 of shape (nbytes,) at a multiple of 8."""

    @abstractmethod
    def decode(self, memory: Tensor, out: Tensor) -> None:
        """Overwrite `out`, shape (n,), with what `memory` says."""


class Reduction(Codec[S]):
    """A codec whose compressed form can be summed on its way: collectives compress the sum itself with it."""

    @abstractmethod
    def reduce(self, vector: Tensor, own: Tensor | None, state: State) -> Iterator[Tensor]:
        """Overwrite `vector` with the compressed sum over all ranks of theirs, and `own` with this rank's part of it.

        Each tensor that is given out has become the sum over all ranks, in place, when the next one is asked for;
        they are as many bytes as `nbytes` says. Parts of all ranks add up to the sum.
        """


#: The codecs by name.
CODECS: Registry[type[Codec[Any]]] = Registry("codec")


@dataclass(frozen=True)
class CodecSpec:
    """A codec's name and settings, checked; `flag` is the option that asks for it."""

    name: str
    settings: Options
    flag: str = "--compress"

    @classmethod
    def of(cls, text: str, flag: str = "--compress") -> CodecSpec | None:
        """What the flag says, "topk:ratio=0.01"; None for "none". Raises OptionsError."""
        name, _, params = text.partition(":")
        if name == "none":
            if params:
                raise OptionsError(f"{flag} {text}: none has no setting: drop '{params}'")
            return None
        try:
            name = CODECS.canonical(name)
        except OptionsError as error:
            raise OptionsError(f"{flag}: {error}, or none") from None
        try:
            return cls(name, checked_settings(CODECS[name].Settings, parse_params(params)), flag)
        except OptionsError as error:
            raise OptionsError(f"{flag} {text}: {error}") from None

    def build(self, layout: Layout) -> Codec[Any]:
        """Raises OptionsError for settings that do not go with the layout."""
        try:
            return CODECS[self.name](self.settings, layout)
        except OptionsError as error:
            raise OptionsError(f"{self.flag} {self.name}: {error}") from None

    @property
    def needs_feedback(self) -> bool:
        return CODECS[self.name].needs_feedback

    @property
    def reduces(self) -> bool:
        """Whether it goes with collectives alone."""
        return issubclass(CODECS[self.name], Reduction)


def checked_settings(section: type[Options], params: Mapping[str, Any]) -> Options:
    """Settings of a codec, named without the dashes of a flag. Raises OptionsError."""
    known = [field.name for field in dataclasses.fields(section)]
    if unknown := sorted(set(params) - set(known)):
        raise OptionsError(f"no setting '{unknown[0]}': it has {', '.join(known) or 'none'}")
    try:
        return section(**params)
    except OptionsError as error:
        text = str(error)
        for name in known:
            text = text.replace(flag_of(name), name)
        raise OptionsError(text) from None
