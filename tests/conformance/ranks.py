"""A master and its workers, or workers alone, as plain calls of an algorithm, without a transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnlo.algos import CollectiveAlgorithm, GossipAlgorithm, Lineage, Pattern, Place, ServerAlgorithm, Update, Value
from nnlo.compress import Compressor, Reduction
from nnlo.flat import Layout
from tests.conformance.table import Row

LAYOUT = Layout.of(nn.Linear(2, 2))
SIZE = LAYOUT.numel


class Rank:
    """One worker: its weights, the memory of its update and its state."""

    def __init__(self, ranks: Ranks, index: int, workers: int) -> None:
        self.algorithm, self.index = ranks.algorithm, index
        in_place = isinstance(ranks.algorithm, ServerAlgorithm) and ranks.algorithm.in_place
        self.x = ranks.w if in_place else ranks.w.clone()
        vectors = ranks.algorithm.vectors if isinstance(ranks.algorithm, GossipAlgorithm) else 1
        self.memory, self.had, self.read = torch.zeros(vectors * SIZE), ranks.w.clone(), 0
        place = ranks.place(index + 1, workers)
        self.state = self.algorithm.init(self.x, self.memory, place)
        self.algorithm.start(self.x, ranks.w, self.state)
        codec = self.algorithm.wire(LAYOUT)
        self.compressor = Compressor(codec, self.algorithm.feedback, place.stream, tells=True) if codec else None

    def batch(self, turn: int) -> None:
        """One batch of 2 or 3 samples of 1/2 |x - target|^2, a target a batch."""
        target = torch.sin(torch.arange(SIZE) + 7.0 * self.index + turn)
        gradient = self.memory if self.algorithm.gradient_is_update else torch.empty(SIZE)
        self.algorithm.probe(self.x, self.state)
        gradient.copy_(self.x - target)
        self.algorithm.local(self.x, gradient, 2 + turn % 2, self.state)

    def send(self) -> Tensor:
        """What the others get."""
        update = self.algorithm.send(self.x, self.state)
        if self.compressor is None or isinstance(self.compressor.codec, Reduction):
            return update.clone()
        memory = torch.zeros(self.compressor.codec.nbytes, dtype=torch.uint8)
        assert self.compressor.encode(update, memory)
        self.algorithm.sent(self.x, self.compressor.sent, self.state)
        return self.compressor.sent.clone()

    def answer(self, reply: Tensor) -> Tensor:
        """What this one is told: weights, or how far they are from those that it was told before."""
        told = (
            reply - self.had if isinstance(self.algorithm, ServerAlgorithm) and self.algorithm.reply_is_move else reply
        )
        self.had.copy_(reply)
        return told.clone()

    def save(self) -> dict[str, Any]:
        compressor = self.compressor.state if self.compressor else {}
        return {
            "x": self.x, "memory": self.memory, "had": self.had, "read": self.read,
            "state": plain(self.state), "compressor": plain(compressor),
        }  # fmt: skip

    def load(self, saved: dict[str, Any]) -> None:
        self.x.copy_(saved["x"])
        self.memory.copy_(saved["memory"])
        self.had.copy_(saved["had"])
        self.read = saved["read"]
        restore(self.state, saved["state"])
        restore(self.compressor.state if self.compressor else {}, saved["compressor"])


class Ranks:
    """All ranks; they exchange in turn, or all at once where synchronous."""

    def __init__(self, row: Row, workers: int) -> None:
        algo = row.algo("mse", row.quadratic)
        self.algorithm, self.optimizer = algo.algorithm, algo.optimizer
        self.w = torch.linspace(-1, 1, SIZE)
        self.version = 0
        self.state: dict[str, Any] = {}
        if isinstance(self.algorithm, ServerAlgorithm):
            self.state = self.algorithm.init_master(self.w, self.place(0, workers))
        self.workers = [Rank(self, index, workers) for index in range(workers)]
        for one in self.workers if isinstance(self.algorithm, ServerAlgorithm) else ():
            self.algorithm.answered(one.index + 1, self.w, self.state)

    def place(self, index: int, workers: int) -> Place:
        neighbours = 0
        if isinstance(self.algorithm, GossipAlgorithm):
            neighbours = len(self.algorithm.mixings(workers)[0].heard_by(index - 1))
        return Place(index, workers, LAYOUT, 5, self.optimizer, neighbours=neighbours)

    def round(self, turn: int) -> None:
        """Every worker computes its batches and exchanges once."""
        everyone = self.workers
        tau = self.algorithm.sync_every
        turns = range(turn * tau, (turn + 1) * tau)
        for senders in [everyone] if self.algorithm.synchronous else [[one] for one in everyone]:
            for one in senders:
                for k in turns:
                    one.batch(k)
            self.exchange(senders, sum(2 + k % 2 for k in turns))

    def scale(self, factor: float) -> None:
        """The schedule's factor from now on, on every rank."""
        for state in [one.state for one in self.workers] + ([self.state] if self.state else []):
            self.algorithm.scale(factor, state)

    def exchange(self, senders: Sequence[Rank], samples: int) -> None:
        ways: dict[Pattern, Callable[[Sequence[Rank], int], None]] = {
            Pattern.SERVER: self.serve, Pattern.COLLECTIVE: self.reduce, Pattern.GOSSIP: self.gossip,
        }  # fmt: skip
        ways[self.algorithm.pattern](senders, samples)
        self.version += 1
        for one in senders:
            one.read = self.version

    def gossip(self, senders: Sequence[Rank], samples: int) -> None:
        """An exchange with neighbours; `w` is the first one's weights."""
        algorithm = self.algorithm
        assert isinstance(algorithm, GossipAlgorithm)
        sent = [one.send().view(algorithm.vectors, SIZE) for one in senders]
        mixings = algorithm.mixings(len(senders))
        for one, row in zip(senders, mixings[self.version % len(mixings)].rows, strict=True):
            values, own = [Value(weight, sent[other]) for other, weight in row], [other for other, _ in row]
            algorithm.mix(one.x, values, own.index(one.index), one.state)
        self.w.copy_(senders[0].x)

    def updates(self, senders: Sequence[Rank], samples: int) -> list[Update]:
        return [
            Update(one.send(), Lineage(one.index + 1, one.read, self.version - one.read, samples)) for one in senders
        ]

    def serve(self, senders: Sequence[Rank], samples: int) -> None:
        """An exchange with a master."""
        algorithm = self.algorithm
        assert isinstance(algorithm, ServerAlgorithm)
        before = self.w.clone()
        if algorithm.pull_first:
            for one in senders:
                algorithm.receive(one.x, before.clone(), one.state)
        updates = self.updates(senders, samples)
        merged = algorithm.merge(updates, self.w, self.state)
        reply = algorithm.step(self.w, merged, [update.lineage for update in updates], self.state)
        for one in senders if not algorithm.pull_first else ():
            algorithm.receive(one.x, one.answer(before if algorithm.answers_before else reply), one.state)
            algorithm.answered(one.index + 1, self.w, self.state)

    def reduce(self, senders: Sequence[Rank], samples: int) -> None:
        """An exchange of workers among themselves."""
        algorithm = self.algorithm
        assert isinstance(algorithm, CollectiveAlgorithm)
        compressors = [one.compressor for one in senders if one.compressor]
        if compressors and isinstance(compressors[0].codec, Reduction):
            vectors = [one.send() for one in senders]
            pairs = zip(compressors, vectors, strict=True)
            steps = [compressor.reduce(vector, 1 / len(senders)) for compressor, vector in pairs]
            for tensors in zip(*steps, strict=True):
                total = torch.stack(list(tensors)).sum(0)
                for tensor in tensors:
                    tensor.copy_(total)
            merged = vectors
        else:
            updates = self.updates(senders, samples)
            merged = [
                algorithm.merge([Update(u.vector.clone(), u.lineage) for u in updates], one.x, one.state)
                for one in senders
            ]
        for one, vector in zip(senders, merged, strict=True):
            algorithm.apply(one.x, vector, one.state)
        self.w.copy_(senders[0].x)
        assert all(torch.equal(one.x, self.w) for one in senders)

    def save(self) -> dict[str, Any]:
        """All of it in plain types, which a checkpoint can hold."""
        workers = [one.save() for one in self.workers]
        return {"w": self.w, "version": self.version, "master": plain(self.state), "workers": workers}

    def load(self, saved: dict[str, Any]) -> None:
        self.w.copy_(saved["w"])
        self.version = saved["version"]
        restore(self.state, saved["master"])
        for one, theirs in zip(self.workers, saved["workers"], strict=True):
            one.load(theirs)


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """The state with its optimizers as state_dicts; all else must be tensors and numbers already."""
    found = {key: value.state_dict() if hasattr(value, "state_dict") else value for key, value in state.items()}
    for key, value in found.items():
        assert value is None or isinstance(value, (Tensor, bool, int, float, str, list, dict)), key
    return found


def restore(state: dict[str, Any], saved: dict[str, Any]) -> None:
    """Tensors are filled where they lie, since they may be the memory that is sent."""
    assert state.keys() == saved.keys()
    for key, value in saved.items():
        if hasattr(state[key], "load_state_dict"):
            state[key].load_state_dict(value)
        elif isinstance(state[key], dict):
            restore(state[key], value)
        elif isinstance(state[key], Tensor) and isinstance(value, Tensor):
            state[key].copy_(value)
        else:
            state[key] = value
