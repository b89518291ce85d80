"""The load of the GPUs that this process may use, by NVIDIA's management library where it is installed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nnlo.logs import LOG

DEVICES = Path("/dev")


class Gpus:
    """`handles` of `library` (the module pynvml) by the devices' numbers or UUIDs."""

    def __init__(self, library: Any, handles: Mapping[str, Any]) -> None:
        self._library, self._handles = library, dict(handles)

    def sample(self) -> dict[str, float]:
        """Utilisation in percent and used memory in bytes of each; NaN where a device does not tell."""
        found = {}
        for name, handle in self._handles.items():
            found[f"gpu{name}_percent"] = self._asked(
                lambda h: self._library.nvmlDeviceGetUtilizationRates(h).gpu, handle
            )
            found[f"gpu{name}_memory_bytes"] = self._asked(
                lambda h: self._library.nvmlDeviceGetMemoryInfo(h).used, handle
            )
        return found

    def _asked(self, question: Callable[[Any], float], handle: Any) -> float:
        try:
            return float(question(handle))
        except self._library.NVMLError:
            return math.nan


def find_gpus() -> Gpus | None:
    """None where there is no GPU; where there is one and it cannot be asked, a log line says why."""
    if not any(DEVICES.glob("nvidia[0-9]*")):
        return None
    try:
        import pynvml
    except ImportError:
        LOG.info("--monitor: no figures of the GPUs without nvidia-ml-py: pip install 'nnlo[monitor]'")
        return None
    try:
        pynvml.nvmlInit()
        return Gpus(pynvml, handles(pynvml))
    except pynvml.NVMLError as error:
        LOG.info("--monitor: no figures of the GPUs: %s", error)
        return None


def handles(library: Any) -> dict[str, Any]:
    """The devices that CUDA_VISIBLE_DEVICES names, by number or UUID; all where it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = range(library.nvmlDeviceGetCount())
    found = {}
    for name in map(str, numbers) if visible is None else (word.strip() for word in visible.split(",")):
        with suppress(library.NVMLError):
            if name.isdigit():
                found[name] = library.nvmlDeviceGetHandleByIndex(int(name))
            elif name:
                found[name] = library.nvmlDeviceGetHandleByUUID(name.encode())
    return found
