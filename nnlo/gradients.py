"""Where a backward pass leaves a module's gradients: in one flat vector.

Torch adds to a gradient that is there, and hands over one that is not. A small parameter's gradient is there, cleared
before. A large one's is handed over and then copied to its place, which takes one pass over the memory in the stead of
two: no clearing, no reading of what was cleared.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nnlo.flat import Layout

#: Elements from which on the pass that is saved takes longer than a call of Python.
LARGE = 1 << 16


class Gradients:
    """The gradients of the parameters of `layout` in `vector`, shape (layout.numel,), 0 where a pass gives none."""

    def __init__(self, module: nn.Module, layout: Layout, vector: Tensor) -> None:
        self.vector = vector
        self._cleared: list[Tensor] = []
        self._copied: list[Tensor] = []
        self._arrived: set[int] = set()
        self._hooks: list[RemovableHandle] = []
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for parameter, slot in zip(self._parameters, layout.parameters, strict=True):
            place = slot.view(vector)
            if slot.size < LARGE:
                parameter.grad = place
                self._cleared.append(place)
            else:
                parameter.grad = None
                arrived = partial(self._take, len(self._copied))
                self._hooks.append(parameter.register_post_accumulate_grad_hook(arrived))  # type: ignore[no-untyped-call]
                self._copied.append(place)

    def begin(self) -> None:
        """A backward pass comes next."""
        if self._cleared:
            torch._foreach_zero_(self._cleared)
        self._arrived.clear()

    def end(self) -> None:
        """The pass is over."""
        for k, place in enumerate(self._copied):
            if k not in self._arrived:
                place.zero_()

    def close(self) -> None:
        """Leave the module's gradients to torch."""
        for hook in self._hooks:
            hook.remove()
        for parameter in self._parameters:
            parameter.grad = None

    def _take(self, k: int, parameter: Tensor) -> None:
        """A large parameter has its gradient, or more of it, as some kinds of checkpointing give it.

        A function of the user's own may give none, which is one of zeros.
        """
        given, place = parameter.grad, self._copied[k]
        parameter.grad = None
        if k not in self._arrived and (given is None or given.is_sparse):
            place.zero_()
            self._arrived.add(k)
        if given is not None:
            place.add_(given) if k in self._arrived else place.copy_(given)
            self._arrived.add(k)
