"""Learning: stochastic gradient descent on seeded batches, with everything that it needs to be interrupted.

    step    v <- momentum v + gradient,  w <- w - rate (gradient + momentum v)         Nesterov 1983
    rate    one cycle (Smith and Topin 2018): up to `rate` in the first quarter of all steps, then down along a cosine
    decay   of weights (two or more dimensions), not of biases and norms
    stop    early, when the score on held-back images has not risen for `patience` epochs; the best epoch's weights stay

All there is of a training between two epochs stands in `Learner.state()`: weights, momenta, both generators, what was
measured. From there it goes on to the same bytes. Test: tests/test_learning.py.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecnn.data.samples import Samples
from edgecnn.evaluation.scores import Score
from edgecnn.networks.callables import quiet
from edgecnn.networks.ending import ending_of
from edgecnn.tasks import segmentation
from exporters.ending import SIGMOID
from runtimes.base import Array, BadInput, Runner, Tensors, Track
from runtimes.comparing.two_classes import as_two

THREADS = 1
"""One: networks this small gain little from a second thread, and lose all of it on a core that somebody shares."""
KEEP_LIMIT_BYTES = 1 << 30
"""Decoded images are kept in memory up to here; above they are decoded anew in every epoch."""
LIMIT = 10.0
"""Largest length of a detector's gradient: the few boxes of a first batch can push it anywhere."""


@dataclass(frozen=True)
class Recipe:
    """How to learn. `flip`: mirror half of the images; `patience`: epochs without a better score, None: never stop.

    `augment`: images may be moved and mirrored; else they are learned as they are.
    """

    epochs: int
    rate: float
    batch: int = 16
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    flip: bool = False
    patience: int | None = None
    seed: int = 0
    augment: bool = True


class Learner:
    """A network while it learns one of `edgecnn/tasks` from `samples`. `losses` and `scores` have a number an epoch.

    `layout` channels_last is a third faster, but a user's `x.view(n, -1)` refuses it.
    """

    def __init__(
        self,
        module: nn.Module,
        task: ModuleType,
        samples: Samples,
        recipe: Recipe,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.module, self.task, self.samples, self.recipe, self.layout = module, task, samples, recipe, layout
        self.fetch = keep(samples)
        self.order = np.random.default_rng(recipe.seed)
        self.batch = min(recipe.batch, len(samples))
        self.steps = len(samples) // self.batch
        module.train().to(memory_format=layout)  # type: ignore[call-overload]
        nesterov = recipe.momentum > 0
        self.optimizer = torch.optim.SGD(
            groups(module, recipe.weight_decay), lr=recipe.rate, momentum=recipe.momentum, nesterov=nesterov
        )
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.best: dict[str, torch.Tensor] = {}

    @property
    def best_epoch(self) -> int:
        """Of the highest score (the first of equals), counted from 1; the last one where nothing was scored."""
        return int(np.argmax(self.scores)) + 1 if self.scores else len(self.losses)

    @property
    def done(self) -> bool:
        epoch, patience = len(self.losses), self.recipe.patience
        return epoch >= self.recipe.epochs or (patience is not None and epoch - self.best_epoch >= patience)

    def learn(self, held: Samples | None, between: Callable[[], None], track: Track) -> None:
        """Go on until done; `between` is called after every epoch. Leaves the module in evaluation mode."""
        total = self.recipe.epochs * self.steps
        for step in track(range(len(self.losses) * self.steps, 0 if self.done else total), "training"):
            if step % self.steps == 0:
                shuffled, made = self.order.permutation(len(self.samples)), []
            place = step % self.steps * self.batch
            made.append(self.step(shuffled[place : place + self.batch], step, total))
            if len(made) == self.steps:
                self.end_epoch(float(np.mean(made)), held)
                between()
                if self.done:
                    break
        if self.best:
            self.module.load_state_dict(self.best)
        self.module.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def step(self, picked: Array, step: int, total: int) -> float:
        """One step on the images `picked`; returns their loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * one_cycle((step + 0.5) / total)
        images, answers = self.fetch(picked), self.task.answers(self.samples, picked)
        if self.recipe.augment:
            images, answers = self.task.augment(images, answers, self.order, self.recipe.flip)
        batch = torch.from_numpy(images).contiguous(memory_format=self.layout)
        with quiet():
            loss = self.task.loss(self.module, batch, answers, self.recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        if hasattr(self.module, "loss"):
            nn.utils.clip_grad_norm_(self.module.parameters(), LIMIT)
        self.optimizer.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            rate = self.recipe.rate
            raise BadInput(f"training: diverged in step {step + 1} of {total} at rate {rate}; try a rate of {rate / 4}")
        return value

    def end_epoch(self, loss: float, held: Samples | None) -> None:
        self.losses.append(loss)
        if held is None:
            return
        value = score_of(self.module, self.task, held)
        if value > max(self.scores, default=-math.inf):
            self.best = copy.deepcopy(self.module.state_dict())
        self.scores.append(value)

    # ------------------------------------------------------------------------------------------------ to be interrupted
    def state(self) -> dict[str, Any]:
        """Tensors, numbers and texts, for `resume.save`."""
        return {
            "module": self.module.state_dict(),
            "momenta": self.optimizer.state_dict()["state"],
            "torch": torch.get_rng_state(),
            "order": repr(self.order.bit_generator.state),
            "losses": self.losses,
            "scores": self.scores,
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state()`; raises what torch and Python raise for one of another network or a damaged one."""
        self.module.load_state_dict(state["module"])
        groups_now = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["momenta"], "param_groups": groups_now})
        torch.set_rng_state(state["torch"])
        self.order.bit_generator.state = generator_state(state["order"])
        self.losses, self.scores = [float(x) for x in state["losses"]], [float(x) for x in state["scores"]]
        self.best = dict(state["best"])


def generator_state(text: str) -> dict[str, Any]:
    """What numpy's generator printed of itself: a dict of texts and whole numbers, beyond the range of torch's."""
    import ast

    found: dict[str, Any] = ast.literal_eval(text)
    return found


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seeded generator, deterministic algorithms, a fixed number of threads; all put back at the end."""
    threads, strict = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(THREADS)
        torch.set_deterministic_debug_mode("error")  # `use_deterministic_algorithms` loads torch's compiler: a second
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(strict)


def top_rate(module: nn.Module) -> float:
    """A rate that the network survives: BatchNorm makes it four times as steady."""
    has_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    return 0.2 if has_norm else 0.05


def one_cycle(progress: float) -> float:
    """Share of the top rate at `progress` in 0..1: a straight climb in the first quarter, then a cosine down to 0."""
    if progress < 0.25:
        return progress / 0.25
    return 0.5 + 0.5 * math.cos(math.pi * (progress - 0.25) / 0.75)


def groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups: those with two or more dimensions decay, biases and norms do not."""
    weights = [p for p in module.parameters() if p.requires_grad and p.dim() > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.dim() <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def keep(samples: Samples) -> Callable[[Array], Array]:
    """Indices (n,) -> images float32 (n, C, H, W), from memory when all of them fit there."""
    if len(samples) * samples[0].nbytes > KEEP_LIMIT_BYTES:
        return lambda picked: np.stack([samples[int(i)] for i in picked])
    kept = samples.stack()
    return lambda picked: np.asarray(kept[picked])


def score_of(module: nn.Module, task: ModuleType, samples: Samples) -> float:
    """What `module` scores in evaluation mode; its own mode comes back."""
    return scored(module, task, samples).value


def scored(module: nn.Module, task: ModuleType, samples: Samples) -> Score:
    training = module.training
    module.eval()
    found: Score = task.score(runner_of(module, task.OUTPUTS), samples, "image", 64)
    module.train(training)
    return found


def runner_of(module: nn.Module, names: tuple[str, ...]) -> Runner:
    """The module, in evaluation mode already, as a runner with outputs `names`; one map has scores of two classes."""
    ending: str | None = None  # looked for once: it takes a run of its own

    def run(feeds: Tensors) -> Tensors:
        nonlocal ending
        images = torch.from_numpy(feeds["image"])
        with torch.no_grad(), quiet():
            answer = module(images)
        if names == segmentation.OUTPUTS and is_one_map(answer):
            if ending is None:
                with quiet():
                    ending = ending_of(module, images[:1])
            return {names[0]: as_two(answer.numpy(), ending == SIGMOID)}
        tensors = [answer] if isinstance(answer, torch.Tensor) else list(answer)
        return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}

    return run


def is_one_map(answer: Any) -> bool:
    """Whether `answer` is one number for each pixel, which tells two classes apart."""
    return isinstance(answer, torch.Tensor) and answer.ndim == 4 and answer.shape[1] == 1
