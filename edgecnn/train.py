"""Train a classifier, small and seeded: real weights for the toolkit in seconds, on the built-in digits or own images.

    loss    cross-entropy, labels smoothed by 0.1
    step    SGD with Nesterov momentum 0.9, weight decay 5e-4 on weights (not on biases and norms)
    rate    one cycle (Smith and Topin 2018): up to `rate` in the first quarter of all steps, then down along a cosine
    images  shifted by up to 1/16 of their size (a digit stays a digit, while a mirrored 2 does not stay a 2)

The held-out fifth of the data (or its own test part) is seen once, at the end. The same arguments give the same bytes:
generators are seeded, algorithms deterministic, and the number of threads fixed, because it changes the order of sums.
Test: tests/test_train.py.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import edgecnn
from edgecnn.callables import quiet
from edgecnn.data import load_data
from edgecnn.evaluate import evaluate
from edgecnn.samples import Samples
from edgecnn.sources import blueprint, build, describe, probe
from edgecnn.spec import Blueprint, image_shape
from edgecnn.weights import Trained, check_weights_output, save_weights
from runtimes.base import Array, BadInput, Tensors, Track, silent

THREADS = 1
"""One: networks this small gain little from a second thread, and lose all of it on a core that somebody shares."""
BATCH = 16
KEEP_LIMIT_BYTES = 1 << 30
"""Decoded images are kept in memory up to here; above they are decoded anew in every epoch."""

Fetch = Callable[[Array], torch.Tensor]
"""Indices (n,) -> images (n, C, H, W)."""


@dataclass(frozen=True)
class TrainReport:
    """What a training came to. Accuracies are top-1, shares of 1; `losses` has the mean of each epoch."""

    output: str
    model: str
    data: str
    classes: int
    epochs: int
    seconds: float
    train_images: int
    test_images: int
    train_accuracy: float
    test_accuracy: float
    losses: tuple[float, ...]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "losses": list(self.losses)}


def train(
    name: str,
    data: str = "digits",
    output: Path | str = "weights.safetensors",
    *,
    epochs: int | None = None,
    seed: int = 0,
    rate: float | None = None,
    input_shape: str | tuple[int, ...] | None = None,
    num_classes: int | None = None,
    force: bool = False,
    track: Track = silent,
) -> TrainReport:
    """Train the network `name` (any SOURCE) on labelled `data` and write its weights, with what they are, to `output`.

    Raises `BadInput` for data without labels, for a network that is no classifier of these classes, and for divergence.
    """
    path = check_weights_output(Path(output), force)
    plan = blueprint(name)
    epochs = plan.epochs if epochs is None else epochs
    if epochs < 1 or (rate is not None and not 0 < rate < math.inf):
        raise BadInput(f"training: {epochs} epochs at rate {rate}; at least one epoch and a rate above 0 are needed")
    start = time.perf_counter()
    with reproducible(seed):
        module, trained, parts = _prepare(plan, name, data, input_shape, num_classes, seed)
        assert parts[0].labels is not None
        layout = torch.channels_last if plan.ours else torch.contiguous_format
        losses = fit(module, keep(parts[0]), parts[0].labels, epochs, rate or top_rate(module), seed, layout, track)
        scores = [score(module, part) for part in parts]
    save_weights(module, path, Trained(**{**vars(trained), "test_accuracy": scores[1]}), force)
    return TrainReport(
        str(path), name, data, trained.num_classes, epochs, time.perf_counter() - start,
        len(parts[0]), len(parts[1]), scores[0], scores[1], tuple(losses), seed,
    )  # fmt: skip


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seeded generator, deterministic algorithms, a fixed number of threads; all put back at the end."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(THREADS)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)


def _prepare(
    plan: Blueprint, name: str, data: str, input_shape: str | tuple[int, ...] | None, num_classes: int | None, seed: int
) -> tuple[nn.Module, Trained, tuple[Samples, Samples]]:
    """The untrained module, what its weights will say of themselves, and the (train, test) samples."""
    if plan.task != "classification":
        raise BadInput(f"{name}: is a network for {plan.task}; training knows classification")
    draft_classes = None if plan.classes is None else num_classes or plan.classes or 2
    shape = image_shape(input_shape) if input_shape is not None else None
    draft = describe(plan, build(plan, None, draft_classes, name, seed), None, shape)
    if draft.preprocess is None:
        raise BadInput(f"{name}: takes {draft.input_shape[0]} channels; training needs pictures, grey (1) or RGB (3)")
    parts = load_data(data, draft.preprocess, split="train"), load_data(data, draft.preprocess, split="test")
    names = parts[0].class_names
    if parts[0].labels is None or len(names) < 2:
        raise BadInput(f"{data}: has no classes to learn; put images into class folders, or give x and y in an .npz")
    module = build(plan, None, None if plan.classes is None else num_classes or len(names), name, seed)
    answer = probe(replace(draft, module=module))
    if not isinstance(answer, torch.Tensor) or answer.shape != (1, len(names)):
        got = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise BadInput(f"{name}: answers {got}, but {data} has {len(names)} classes; give --num-classes {len(names)}")
    version = edgecnn.__version__
    about = Trained(name, len(names), draft.input_shape, draft.preprocess, names, data, 0.0, seed, version)
    return module, about, parts


# ----------------------------------------------------------------------------------------------------------- learning
def fit(
    module: nn.Module,
    fetch: Fetch,
    labels: Array,
    epochs: int,
    rate: float,
    seed: int,
    layout: torch.memory_format = torch.contiguous_format,
    track: Track = silent,
) -> list[float]:
    """Train `module` in place; returns the mean loss of each epoch. Leaves it in evaluation mode.

    `layout` channels_last is a third faster, but a user's `x.view(n, -1)` refuses it.
    """
    order = np.random.default_rng(seed)
    batch = min(BATCH, len(labels))
    steps = epochs * (len(labels) // batch)
    targets = torch.from_numpy(labels)
    optimizer = torch.optim.SGD(groups(module), lr=rate, momentum=0.9, nesterov=True)
    losses: list[float] = []
    module.train().to(memory_format=layout)  # type: ignore[call-overload]
    for step in track(range(steps), "training"):
        at = step % (steps // epochs)
        if at == 0:
            shuffled = order.permutation(len(labels))
        picked = shuffled[at * batch : (at + 1) * batch]
        for group in optimizer.param_groups:
            group["lr"] = rate * one_cycle((step + 0.5) / steps)
        with quiet():
            logits = module(shift(fetch(picked), order).contiguous(memory_format=layout))
        loss = functional.cross_entropy(logits, targets[picked], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise BadInput(f"training: diverged in step {step + 1} of {steps} at rate {rate}; try a rate of {rate / 4}")
    module.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return [float(np.mean(part)) for part in np.split(np.array(losses), epochs)]


def top_rate(module: nn.Module) -> float:
    """A rate that the network survives: BatchNorm makes it four times as steady."""
    has_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    return 0.2 if has_norm else 0.05


def one_cycle(progress: float) -> float:
    """Share of the top rate at `progress` in 0..1: a straight climb in the first quarter, then a cosine down to 0."""
    if progress < 0.25:
        return progress / 0.25
    return 0.5 + 0.5 * math.cos(math.pi * (progress - 0.25) / 0.75)


def groups(module: nn.Module) -> list[dict[str, Any]]:
    """Parameters in two groups: those with two or more dimensions decay, biases and norms do not."""
    weights = [p for p in module.parameters() if p.requires_grad and p.dim() > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.dim() <= 1]
    return [{"params": weights, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]


def shift(images: torch.Tensor, order: np.random.Generator) -> torch.Tensor:
    """Each of the images (N, C, H, W) moved by up to 1/16 of its size; the edge is repeated."""
    count, _, height, width = images.shape
    index = []
    for size in (height, width):
        moves = order.integers(-(size // 16), size // 16 + 1, count)
        index.append(torch.from_numpy(np.clip(np.arange(size) + moves[:, None], 0, size - 1)))
    rows, columns = index
    which = torch.arange(count)
    return images.permute(0, 2, 3, 1)[which[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def keep(samples: Samples) -> Fetch:
    """Indices -> images, from memory when all of them fit there."""
    if len(samples) * samples[0].nbytes > KEEP_LIMIT_BYTES:
        return lambda picked: torch.from_numpy(samples.subset(picked).stack())
    kept = torch.from_numpy(samples.stack())
    return lambda picked: kept[torch.from_numpy(picked)]


def score(module: nn.Module, samples: Samples) -> float:
    """Top-1 of the module on labelled samples."""

    def run(feeds: Tensors) -> Tensors:
        with torch.no_grad(), quiet():
            return {"logits": module(torch.from_numpy(feeds["image"])).numpy()}

    return evaluate(run, samples, "image", 64)
