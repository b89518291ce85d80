"""Parts of a gradient that are reduced over all workers while the backward pass still computes the others.

A part is a run of whole parameters of about so many bytes. The last parameters come first, since that is about the
order in which a backward pass gets to them. Collectives match by the order in which they are started, so every worker
starts the parts in one order, whatever order its gradients come in: a part waits for the one before it, and
what has not been started when the backward pass is over is started then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from nnlo.comm.base import Source
from nnlo.errors import TrainingError
from nnlo.flat import Layout, finite


class Buckets:
    """`reduce` starts to sum a tensor over all workers, in place.

    `gradient`, shape (layout.numel,), is what the module's gradients lie in, `buffers` its float buffers. Nothing is
    started early before one backward pass was seen that gave no parameter its gradient twice, as some kinds of
    checkpointing do: a part on its way may not be written any more.

    `good`, after `finish`: whether this worker's gradient is finite. Zeros are summed in its stead where inf or nan
    show before the first part starts; those that come later spoil the sum, which `spoils` says then. `progress` lets
    what has been started move on while the backward pass has the processor.
    """

    def __init__(
        self,
        module: nn.Module,
        layout: Layout,
        gradient: Tensor,
        buffers: Tensor,
        reduce: Callable[[Tensor], Source],
        progress: Callable[[], None],
        nbytes: int,
    ) -> None:
        self.gradient, self.runs = gradient, runs_of(layout, nbytes)
        self.good = self.spoils = False
        self._layout, self._buffers, self._reduce, self._progress = layout, buffers, reduce, progress
        self._part_of = {k: part for part, run in enumerate(self.runs) for k in run}
        self._open, self._watched, self._twice = False, False, False
        self._samples, self._sources = 0, list[Source]()
        self._missing = [set(run) for run in self.runs]
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(partial(self._arrived, k))  # type: ignore[no-untyped-call]
            for k, parameter in enumerate(trained)
        ]

    def close(self) -> None:
        """Leave the module as it was."""
        for hook in self._hooks:
            hook.remove()

    def begin(self, samples: int) -> None:
        """The backward pass of a batch of so many samples comes next; of none where this worker has no batch."""
        self._open, self._samples, self._sources = True, samples, []
        self._missing = [set(run) for run in self.runs]
        self.good, self.spoils = samples > 0, False

    def finish(self) -> list[Source]:
        """Start what has not been started; once all of these are ready, the gradient is sum b_i g_i."""
        self._open, self._watched = False, self._watched or self._samples > 0
        if not self._sources:
            self.good = self.good and finite(self.gradient) and finite(self._buffers)
            if not self.good:
                self.gradient.zero_()
            while len(self._sources) < len(self.runs):
                self._start()
        while len(self._sources) < len(self.runs):
            self._check()
            self._start()
        return self._sources

    def _arrived(self, k: int, parameter: Tensor) -> None:
        """Parameter `k` has its gradient; calls outside of begin and finish are of no concern."""
        if not self._open:
            return
        part = self._part_of[k]
        if k not in self._missing[part]:
            self._again(k)
        self._missing[part].discard(k)
        while self._watched and not self._twice and self._next_is_due():
            self._check()
            self._start()
        if self._sources:
            self._progress()

    def _again(self, k: int) -> None:
        self._twice = True
        if self._part_of[k] < len(self._sources):
            name = self._layout.parameters[k].name
            raise TrainingError(
                f"the backward pass adds to the gradient of '{name}' in several steps, when it is on its way already: "
                "give --bucket-mib 0"
            )

    def _next_is_due(self) -> bool:
        following = len(self._sources)
        if following == len(self.runs) or self._missing[following]:
            return False
        return following > 0 or (finite(self._next()) and finite(self._buffers))

    def _next(self) -> Tensor:
        """The part that is to be started next."""
        run = self.runs[len(self._sources)]
        first, last = self._layout.parameters[run[0]], self._layout.parameters[run[-1]]
        return self.gradient[first.offset : last.offset + last.size]

    def _check(self) -> None:
        """Of the parts after the first, which has been looked at before, the one that is to be started next."""
        if self.good and self._sources and not finite(self._next()):
            self.good, self.spoils = False, True

    def _start(self) -> None:
        self._sources.append(self._reduce(self._next().mul_(self._samples)))


def runs_of(layout: Layout, nbytes: int) -> list[range]:
    """The parameters of each part by their numbers, the last part of the vector first.

    A part is closed with the parameter that makes it `nbytes` long, or longer.
    """
    runs, stop, size = [], len(layout.parameters), 0
    for k in reversed(range(stop)):
        size += layout.parameters[k].size * layout.dtype.itemsize
        if size >= nbytes or k == 0:
            runs.append(range(k, stop))
            stop, size = k, 0
    return runs
