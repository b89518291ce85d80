"""Looking through data without training: how many samples, of which form, between which values, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from nnlo.data.base import Array, Arrays, Data, as_list, checked_pair, form, rows
from nnlo.data.blocks import stored_type
from nnlo.errors import DataError

#: Bytes looked at together, where a file can be read in parts.
SLICE_BYTES = 8 << 20

Judge = Callable[[Arrays, Arrays, int], str]
"""What does not suit the model in the features and labels of the rows from a number on, empty where nothing."""


def suits(x: Arrays, y: Arrays, at: int) -> str:
    """Where there is no model, all do."""
    return ""


@dataclass
class Values:
    """What one array of all batches holds; `first_bad` is the first row (a sample's number) with NaN or inf."""

    name: str
    low: float | None = None
    high: float | None = None
    nans: int = 0
    infs: int = 0
    first_bad: int | None = None

    def add(self, array: Array, at: int) -> None:
        """Take in the rows from number `at` on."""
        finite = np.isfinite(array)
        if not finite.all():
            nans = int(np.isnan(array).sum())
            self.nans, self.infs = self.nans + nans, self.infs + int((~finite).sum()) - nans
            if self.first_bad is None:
                self.first_bad = at + int(np.nonzero(~finite)[0][0])
            array = array[finite]
        if array.size and array.dtype.kind != "c":
            lows, highs = [array.min().item()], [array.max().item()]
            self.low = min(lows if self.low is None else [self.low, *lows])
            self.high = max(highs if self.high is None else [self.high, *highs])

    def __str__(self) -> str:
        told = self.name if self.low is None else f"{self.name} {self.low:.6g} .. {self.high:.6g}"
        if self.first_bad is None:
            return told
        return f"{told}, {self.nans} NaN and {self.infs} inf, the first in row {self.first_bad}"


@dataclass
class Report:
    """What a file, or a generator's epoch, holds.

    `fault` says what is wrong with it, `misfit` what does not suit the model; each is empty where nothing is.
    """

    name: str
    samples: int = 0
    form: str = ""
    fault: str = ""
    misfit: str = ""
    values: list[Values] = field(default_factory=list)

    def add(self, x: Arrays, y: Arrays) -> None:
        """Take in the next samples. Raises DataError for what cannot be trained on."""
        arrays = [np.asarray(array) for array in (*as_list(x), *as_list(y))]
        for array in arrays:
            stored_type(array.dtype, torch.float32)
        if not self.values:
            forms = [f"{name} {form([array])}" for name, array in zip(names(x, y), arrays, strict=True)]
            self.form, self.values = form(arrays), [Values(told) for told in forms]
        if self.form != form(arrays):
            raise DataError(f"{self.name}: samples of form {form(arrays)} after such of form {self.form}")
        for values, array in zip(self.values, arrays, strict=True):
            values.add(array, self.samples)
        self.samples += rows(y)

    def __str__(self) -> str:
        if self.fault:
            return f"WRONG {self.fault}"
        told = [f"{'WRONG ' * self.wrong}{self.name}: {self.samples} samples", *map(str, self.values)]
        return "; ".join([*told, self.misfit] if self.misfit else told)

    @property
    def wrong(self) -> bool:
        return bool(self.fault or self.misfit) or any(values.first_bad is not None for values in self.values)


def names(x: Arrays, y: Arrays) -> list[str]:
    """What the arrays of a batch are called: x, y, or x[0], x[1] where there are several."""
    sides = {"x": x, "y": y}
    return [
        f"{side}[{i}]" if isinstance(arrays, (list, tuple)) else side
        for side, arrays in sides.items()
        for i in range(len(as_list(arrays)))
    ]


def check_file(data: Data, file: str, name: str | None = None, trial: Judge = suits) -> Report:
    """What one file holds; a part of it is in memory at a time, unless `data` can only load it whole."""
    return report(name or file, slices(data, file), trial)


def check_generator(data: Data, trial: Judge = suits) -> Report:
    """What one epoch of `generate_data` holds."""
    return report(f"generate_data() of {type(data).__name__}, worker {data.worker + 1}", data.checked_batches(), trial)


def report(name: str, batches: Iterable[tuple[Arrays, Arrays]], trial: Judge) -> Report:
    """What the batches hold together, up to the first that cannot be used."""
    found = Report(name)
    try:
        for x, y in batches:
            at = found.samples
            found.add(x, y)
            found.misfit = found.misfit or trial(x, y, at)
    except DataError as error:
        found.fault = str(error) if name in str(error) else f"{name}: {error}"
    except OSError as error:
        found.fault = f"{name}: {error.strerror or error}"
    return found


def slices(data: Data, file: str) -> Iterator[tuple[Arrays, Arrays]]:
    """All samples of a file, in parts of about SLICE_BYTES where it can be read so."""
    if data.whole_files:
        yield checked_pair(file, data.load_data(file))
        return
    samples = data.count_file(file)
    first = data.read_rows(file, 0, 1)
    each = sum(np.asarray(array).nbytes for array in (*as_list(first[0]), *as_list(first[1])))
    step = max(1, SLICE_BYTES // max(1, each))
    for start in range(0, max(1, samples), step):
        yield data.read_rows(file, start, start + step)


def same_forms(reports: Sequence[Report]) -> list[Report]:
    """The reports, with a fault for each whose samples have another form than the first's; empty ones do not count."""
    first = next((one for one in reports if one.samples and not one.fault), None)
    for one in reports:
        if first and one.samples and not one.fault and one.form != first.form:
            one.fault = f"{one.name}: samples of form {one.form}, while {first.name} has {first.form}"
    return list(reports)
