"""Online learning: the actor imitates what the critic found best, while it runs.

There is no gradient of the reward. A memory holds the last states and their best decisions; every few frames
one step of Adam lowers the binary cross-entropy of a random batch of them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from examples.mec.actors import TorchActor
from examples.mec.candidates import AdaptiveCount, deduplicate, noisy_logits, order_preserving, single_users
from examples.mec.features import features
from examples.mec.policies import Decision, choose
from examples.mec.queues import States
from examples.mec.system import Bools, MecSystem
from examples.mec.transformer import MecTransformer

__all__ = ["Learner", "LearnerSettings", "Memory"]


@dataclass(frozen=True)
class LearnerSettings:
    """How the actor learns.

    Attributes:
        rate: Adam's learning rate; one optimizer all along, so that its moments mean something.
        batch: samples of a step.
        memory: states remembered.
        every: frames between steps.
        noisy: as many candidates again, of logits with noise (OPN).
        adaptive: ask for no more candidates than win (see :class:`examples.mec.candidates.AdaptiveCount`).
        guard: also nobody and each user alone.
        seed: of samples and noise.
    """

    rate: float = 1e-3
    batch: int = 128
    memory: int = 1024
    every: int = 20
    noisy: bool = True
    adaptive: bool = False
    guard: bool = False
    seed: int = 0


class Memory:
    """A ring buffer of tokens, decisions and who was there."""

    def __init__(self, size: int, users: int, width: int) -> None:
        self._tokens = torch.zeros(size, users, width)
        self._decisions = torch.zeros(size, users)
        self._active = torch.zeros(size, users)
        self._stored = 0

    def __len__(self) -> int:
        return min(self._stored, len(self._tokens))

    def store(self, tokens: Tensor, decision: Bools, active: Bools) -> None:
        """Remember one state: tokens [N, F], decision and activity [N]. The oldest is forgotten."""
        row = self._stored % len(self._tokens)
        self._tokens[row] = tokens
        self._decisions[row] = torch.from_numpy(decision)
        self._active[row] = torch.from_numpy(active)
        self._stored += 1

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw tokens [B, N, F], decisions [B, N] and activity [B, N] with replacement."""
        rows = torch.randint(len(self), (count,), generator=generator)
        return self._tokens[rows], self._decisions[rows], self._active[rows]


class Learner:
    """A policy of one simulation that trains its actor as it goes.

    Attributes:
        losses: of each step.
    """

    def __init__(self, system: MecSystem, model: MecTransformer, settings: LearnerSettings) -> None:
        self._system, self._model, self._settings = system, model, settings
        self._actor = TorchActor(model, model.masked)
        self._memory = Memory(settings.memory, *model.input_shape)
        self._optimizer = torch.optim.Adam(model.parameters(), lr=settings.rate)
        self._noise = np.random.default_rng(settings.seed)
        self._samples = torch.Generator().manual_seed(settings.seed)
        self._count = AdaptiveCount(system.users)
        self._frames = 0
        self.losses: list[float] = []

    def decide(self, states: States) -> Decision:
        """Decide, remember, and train when it is time (see :class:`examples.mec.policies.Policy`)."""
        logits = self._actor.logits(states)
        count, active = self._count.count, states.active
        sets = [order_preserving(logits, active, count)]
        if self._settings.noisy:
            sets.append(order_preserving(noisy_logits(logits, self._noise), active, count))
        if self._settings.guard:
            sets.append(single_users(active))
        candidates, origin = deduplicate(np.concatenate(sets, axis=1))
        decision = choose(self._system, states, candidates)
        if self._settings.adaptive:
            # A guard's win says that the actor's own order did not reach the best one: ask for all it has.
            index = int(origin[decision.winner[0]])
            self._count.won(index if index < count * (1 + self._settings.noisy) else count - 1)
        tokens = torch.from_numpy(features(states, self._model.masked))[0]
        self._memory.store(tokens, decision.offload[0], active[0])
        self._frames += 1
        if self._frames % self._settings.every == 0 and len(self._memory) >= self._settings.batch:
            self.losses.append(self._step())
        return decision

    def _step(self) -> float:
        tokens, decisions, active = self._memory.sample(self._settings.batch, self._samples)
        each = functional.binary_cross_entropy_with_logits(self._model(tokens), decisions, reduction="none")
        loss = (each * active).sum() / active.sum()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.item()
