"""Mixed precision: a worker computes in a narrow type what may be, and keeps weights and gradients as they are.

Micikevicius et al. 2018, "Mixed precision training", arXiv 1710.03740. bf16 has float32's range; fp16 has
not, so that the loss is scaled up before the backward pass and the gradient down after it (section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnlo.errors import OptionsError
from nnlo.model.labels import Tensors
from nnlo.model.step import GradientStep, eval_mode
from nnlo.registry import Registry

AMP: Registry[torch.dtype] = Registry("mixed precision (--amp)")
AMP.register("bf16", torch.bfloat16, aliases=("bfloat16",))
AMP.register("fp16", torch.float16, aliases=("float16",))

FIRST_SCALE = 2.0**16
#: Batches without an overflow after which the scale is doubled.
PATIENCE = 2000


def get_amp(name: str | None) -> torch.dtype | None:
    """The narrow type of that name; None for none. Raises OptionsError."""
    return None if name is None else AMP[name]


class ScaledStep:
    """A GradientStep whose loss is scaled, so that small gradients survive a narrow type.

    A batch whose gradient overflows is computed again with half the scale, so that no sample is lost. One
    whose loss is not finite either is left to whoever looks at the gradient: no scale would help. `gradient`,
    shape (n,), is where the step's gradients lie.
    """

    def __init__(self, step: GradientStep, gradient: Tensor) -> None:
        self._step, self._gradient = step, gradient
        self.scale, self.good = FIRST_SCALE, 0

    def __call__(self, x: Tensors, y: Tensors, sums: Tensor) -> None:
        before = sums.clone()
        while True:
            loss = self._step(x, y, sums, self.scale)
            self._gradient.div_(self.scale)
            if self._settled(loss):
                return
            sums.copy_(before)
            self._gradient.zero_()

    def state_dict(self) -> dict[str, float]:
        return {"scale": self.scale, "good": self.good}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.scale, self.good = state["scale"], int(state["good"])

    def _settled(self, loss: Tensor) -> bool:
        """Whether this gradient is to be used; the scale for the next attempt."""
        if bool(torch.isfinite(self._gradient).all()):
            self.good += 1
            if self.good % PATIENCE == 0:
                self.scale *= 2.0
            return True
        self.good = 0
        if self.scale <= 1.0 or not bool(torch.isfinite(loss)):
            return True
        self.scale /= 2.0
        return False


def check_amp(step: GradientStep, x: Tensors, y: Tensors) -> None:
    """Try one gradient in the narrow type, before anything trains. Raises OptionsError where that cannot be done."""
    if any(parameter.dtype != torch.float32 for parameter in step.module.parameters()):
        raise OptionsError("--amp needs a model of float32: drop --amp, or build the model in torch.float32")
    try:
        with eval_mode(step.module):
            step.backward(x, y)
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        raise OptionsError(f"--amp: torch cannot compute this model so ({said}): choose another, or none") from error
    finally:
        step.module.zero_grad(set_to_none=True)
