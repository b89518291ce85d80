"""What all ranks do before training: look at the data, build the model, and agree that they can start."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from nnlo.algos import Pattern
from nnlo.comm.agree import agree, everywhere, share
from nnlo.comm.base import Transport
from nnlo.data.feed import Batch, as_batch
from nnlo.errors import OptionsError
from nnlo.flat import Arena, Layout
from nnlo.model import GradientStep, check_amp, check_fit, user_code
from nnlo.optim import Group, groups_of
from nnlo.roles.inspect import Sample
from nnlo.roles.intake import Intake, Validation, training_intake, validation_intake
from nnlo.roles.team import Team, form_crew, form_team
from nnlo.roles.turns import Turns
from nnlo.roles.watchdog import Watchdog
from nnlo.training.checkpoint.contents import Restored
from nnlo.training.job import Job
from nnlo.training.seeds import Purpose, derived, seed_everything
from nnlo.training.signals import Signals


@dataclass(frozen=True)
class Setup:
    """What a rank starts with.

    `crew`: the ranks that exchange, None for members of teams; `team`: that of a worker of several ranks. `common`: the
    memory of the centre's weights, where all of the crew share it. `keeps`: whether states travel between rank 0 and
    the workers, for checkpoints; `restores`: whether training goes on from one, which is `restored` on rank 0.
    `signals`: those that tell the job to leave. `turns`: in which order rank 0 takes messages.
    `watchdog`: what looks at this rank's own work.
    """

    module: nn.Module
    layout: Layout
    groups: tuple[Group, ...]
    intake: Intake
    validation: Validation | None
    crew: Transport | None
    team: Team | None
    common: Tensor | None = None
    keeps: bool = False
    restores: bool = False
    signals: Signals = field(default_factory=Signals)
    restored: Restored | None = None
    turns: Turns = field(default_factory=Turns)
    watchdog: Watchdog = field(default_factory=Watchdog)


async def prepare(transport: Transport, job: Job) -> Setup:
    """Set up this rank. Raises the same NnloError on every rank when one of them cannot start."""
    await everywhere(transport, partial(job.algorithm.check, job.topology.workers, job.epochs))
    intake = await training_intake(transport, job)
    validation = await validation_intake(transport, job, intake.held_out, intake.sample)
    module, layout, groups = await everywhere(transport, partial(build, job, intake.sample))
    await same_model(transport, layout)
    node = job.topology.nodes[transport.rank]
    lead = transport.peers[node.team[0]] if node.team else transport.id
    seed_everything(*(derived(job.seed, Purpose.RANK, peer) for peer in (transport.id, lead)))
    crew, team = await form_crew(transport, job, node), await form_team(transport, job, node)
    common = await common_memory(transport, crew, job, layout)
    return Setup(module, layout, groups, intake, validation, crew, team, common)


async def common_memory(transport: Transport, crew: Transport | None, job: Job, layout: Layout) -> Tensor | None:
    """The centre's weights, where the crew has them in common. Raises OptionsError on every rank."""
    if job.algorithm.pattern is not Pattern.SERVER or not job.server.in_place:
        return None
    await everywhere(transport, partial(check_common, crew, job))
    return await crew.common(Arena.nbytes(layout, len(job.metric_names))) if crew else None


def check_common(crew: Transport | None, job: Job) -> None:
    """Raises OptionsError where workers cannot have the master's weights."""
    if job.topology.masters > 1:
        raise OptionsError("--hogwild knows one master: drop --n-masters, or --hogwild")
    if crew is not None and not crew.shares:
        raise OptionsError("--hogwild needs all ranks on one host, in shared memory: start it so, or drop --hogwild")


def build(job: Job, sample: Sample | None) -> tuple[nn.Module, Layout, tuple[Group, ...]]:
    """The model with its initial weights, tried on a few samples, and its parameter groups."""
    seed_everything(derived(job.seed, Purpose.MODEL))
    module = job.builder.build_model()
    if not isinstance(module, nn.Module):
        raise OptionsError(f"build_model() must return a torch module, not {type(module).__name__}")
    layout = Layout.of(module)
    job.algorithm.wire(layout)
    check_sums(job, layout)
    if sample is not None:
        try_on(job, module, as_batch(sample.x, sample.y, layout.dtype))
    return module, layout, checked_groups(job, module, layout)


def check_sums(job: Job, layout: Layout) -> None:
    """Raises OptionsError where MPI is to add up numbers of a type that it does not know."""
    among_workers = job.algorithm.pattern is Pattern.COLLECTIVE
    in_teams = job.topology.processes > 1 and job.team_backend == "mpi"
    if (among_workers or in_teams) and layout.dtype is torch.bfloat16:
        raise OptionsError("MPI cannot add up bfloat16: build the model in float32, and compute with --amp bf16")


def try_on(job: Job, module: nn.Module, batch: Batch) -> None:
    """Try the model, the loss and the metrics on a small batch. Raises OptionsError."""
    check_fit(module, batch.x, batch.y, job.loss, job.metrics)
    if job.amp is not None:
        check_amp(GradientStep(module, job.loss, amp=job.amp), batch.x, batch.y)


def checked_groups(job: Job, module: nn.Module, layout: Layout) -> tuple[Group, ...]:
    """The model's parameter groups, with settings that the optimizer has. Raises OptionsError."""
    with user_code("param_groups()"):
        groups = groups_of(module, layout, job.builder.param_groups(module))
    if groups and job.optimizer is None:
        raise OptionsError("the model has param_groups(), and this --mode has no --optimizer to heed them")
    if groups and job.optimizer is not None:
        job.optimizer.build(torch.empty(layout.numel), groups)
    return groups


async def same_model(transport: Transport, layout: Layout) -> None:
    """Raises OptionsError on every rank when two of them built different models."""
    digests = await share(transport, layout.digest)
    odd = [peer for peer, other in zip(transport.peers, digests, strict=True) if other != digests[0]]
    fault = f"rank {odd[0]} built another model than rank 0: build_model() must do the same everywhere" if odd else ""
    await agree(transport, OptionsError(fault) if fault else None)
