"""Parameter groups: parts of the flat vector with settings of their own, such as biases without weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from nnlo.errors import OptionsError
from nnlo.flat import Layout, Slot

WHERE = "param_groups()"


@dataclass(frozen=True)
class Group:
    """`settings` go before the optimizer's; `runs` are the parts [start, stop) of the vector that they hold for."""

    settings: Mapping[str, Any]
    runs: tuple[tuple[int, int], ...]


def groups_of(module: nn.Module, layout: Layout, wanted: Iterable[Mapping[str, Any]] | None) -> tuple[Group, ...]:
    """The groups that `wanted` describes as torch's optimizers take them, after one of all parameters in none of them.

    wanted: dictionaries of "params", parameters of the module, and of settings; parameters that are not trained are
    passed over. None: no groups. Raises OptionsError for what is no such description.
    """
    if wanted is None:
        return ()
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    slots = {id(parameter): slot for parameter, slot in zip(trained, layout.parameters, strict=True)}
    known = {id(parameter) for parameter in module.parameters()}
    chosen: list[tuple[dict[str, Any], list[Slot]]] = []
    taken: set[int] = set()
    for group in checked_groups(wanted):
        settings = {key: value for key, value in group.items() if key != "params"}
        members = parameters_of(group["params"], known, taken)
        chosen.append((settings, [slots[one] for one in members if one in slots]))
    rest: list[Slot] = [slot for one, slot in slots.items() if one not in taken]
    return tuple(Group(settings, runs_of(members)) for settings, members in [({}, rest), *chosen] if members)


def checked_groups(wanted: Any) -> list[Mapping[str, Any]]:
    groups: list[Any] = list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, Mapping) else [None]
    if not all(isinstance(group, Mapping) and "params" in group for group in groups):
        raise OptionsError(f"{WHERE} must return a list of dictionaries, each with 'params' and settings of its own")
    return groups


def parameters_of(params: Any, known: set[int], taken: set[int]) -> list[int]:
    """The identities of a group's parameters, which are noted in `taken`."""
    members = [params] if isinstance(params, nn.Parameter) else list(params)
    for member in members:
        if id(member) not in known:
            raise OptionsError(f"{WHERE}: 'params' holds something that is no parameter of the model it was given")
        if id(member) in taken:
            raise OptionsError(f"{WHERE}: a parameter of shape {tuple(member.shape)} is in two groups: put it in one")
        taken.add(id(member))
    return [id(member) for member in members]


def runs_of(slots: Sequence[Slot]) -> tuple[tuple[int, int], ...]:
    """The parts of the vector that the slots take, neighbours as one."""
    runs: list[tuple[int, int]] = []
    for slot in sorted(slots, key=lambda slot: slot.offset):
        start = runs.pop()[0] if runs and runs[-1][1] == slot.offset else slot.offset
        runs.append((start, slot.offset + slot.size))
    return tuple(runs)
