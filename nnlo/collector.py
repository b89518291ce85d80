"""torch as Python's garbage collector takes it: imported without a look, and never looked through again.

An import of torch makes 170,000 objects that stay. Python would search them for cycles while they are made (0.2 s of
1.8 s on one core), in each full collection of a training (0.09 s) and at the end of the process (0.4 s).
"""

from __future__ import annotations

import gc

_collecting = gc.isenabled()
gc.disable()
try:
    import torch  # noqa: F401
finally:
    if _collecting:
        gc.enable()
gc.freeze()
