"""The parts of a training: the rate's cycle, decay of weights only, early stopping on the best epoch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.data.load import load_data
from edgecnn.data.samples import Samples, hold_back
from edgecnn.networks.spec import unit_range
from edgecnn.tasks import classification
from edgecnn.training import learning
from edgecnn.training.learning import Learner, Recipe, groups, keep, one_cycle, runner_of, top_rate
from runtimes.base import BadInput, silent


def test_one_cycle_climbs_for_a_quarter_and_comes_down_to_zero() -> None:
    assert [one_cycle(p) for p in (0.0, 0.125, 0.25)] == [0.0, 0.5, 1.0]
    assert one_cycle(0.625) == pytest.approx(0.5, abs=1e-15)  # half way down the cosine; rounding of one cos
    assert one_cycle(1.0) == 0.0


def test_only_weights_decay() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    decaying, others = groups(module, 5e-4)
    assert [tuple(p.shape) for p in decaying["params"]] == [(2, 1, 3, 3), (2, 2)]
    assert len(others["params"]) == 4
    assert (decaying["weight_decay"], others["weight_decay"]) == (5e-4, 0.0)
    assert (top_rate(module), top_rate(module[0])) == (0.2, 0.05)


def linear(count: int = 12) -> tuple[nn.Module, Samples]:
    """A linear network without dropout, and images whose class is the sign of their mean."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).standard_normal((count, 1, 4, 4)).astype(np.float32)
    labels = (images.mean((1, 2, 3)) > 0).astype(np.int64)
    ids = tuple(map(str, range(count)))
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    return module, Samples("made", ids, lambda i: images[i], labels, ("-", "+"))


def test_a_step_is_nesterovs_by_hand() -> None:
    """Two steps of all images: v = m v + g, w = w - rate (g + m v), with decay in g; the order does not matter."""
    module, samples = linear()
    recipe = Recipe(epochs=2, rate=0.3, batch=12, momentum=0.8, weight_decay=0.1, label_smoothing=0.0)
    weight = module[1].weight.detach().clone().requires_grad_()
    bias = module[1].bias.detach().clone().requires_grad_()
    Learner(module, classification, samples, recipe).learn(None, lambda: None, silent)
    x, y = torch.from_numpy(samples.stack()).flatten(1), torch.from_numpy(samples.labels)
    moving = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for step in range(2):
        loss = nn.functional.cross_entropy(x @ weight.T + bias, y)
        slopes = torch.autograd.grad(loss, [weight, bias])
        rate = 0.3 * one_cycle((step + 0.5) / 2)
        with torch.no_grad():
            for p, g, v, decay in zip((weight, bias), slopes, moving, (0.1, 0.0), strict=True):
                g = g + decay * p
                v.mul_(0.8).add_(g)
                p -= rate * (g + 0.8 * v)
    assert torch.allclose(module[1].weight, weight, atol=1e-6)  # sums of 12 products in another order
    assert torch.allclose(module[1].bias, bias, atol=1e-6)


def test_every_image_is_seen_once_an_epoch_up_to_an_incomplete_batch() -> None:
    module, samples = linear(11)
    seen: list[Any] = []
    task = SimpleNamespace(**{n: getattr(classification, n) for n in ("augment", "loss", "OUTPUTS", "score")})
    task.answers = lambda s, picked: seen.append(picked) or classification.answers(s, picked)
    learner = Learner(module, task, samples, Recipe(3, 0.1, batch=4))  # type: ignore[arg-type]
    learner.learn(None, lambda: None, silent)
    assert len(seen) == 6
    epochs = [np.concatenate(seen[i : i + 2]) for i in (0, 2, 4)]
    assert all(len(set(epoch.tolist())) == 8 for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert len(learner.losses) == 3


# ------------------------------------------------------------------------------------------------------- early stopping
class Scripted:
    """A task that learns as classification does and whose scores are told before; remembers what was scored."""

    OUTPUTS = classification.OUTPUTS

    def __init__(self, scores: list[float]) -> None:
        self.left, self.weights, self.held = list(scores), [], []
        self.answers, self.augment, self.loss = classification.answers, classification.augment, classification.loss

    def score(self, runner: Any, samples: Samples, input_name: str, batch: int) -> Any:
        self.held.append(samples)
        return SimpleNamespace(value=self.left.pop(0))


@pytest.mark.parametrize(
    ("scores", "patience", "epochs", "best"),
    [
        ([0.1, 0.5, 0.4, 0.3, 0.9], 2, 4, 2),  # stops before it would have risen again
        ([0.1, 0.5, 0.5, 0.5, 0.9], 2, 4, 2),  # equal is no better
        ([0.1, 0.2, 0.3, 0.4, 0.5], 1, 5, 5),
        ([0.5, 0.1, 0.6, 0.1, 0.2], 2, 5, 3),
        ([0.0, 0.0, 0.0, 0.0, 0.0], 3, 4, 1),
    ],
)
def test_it_stops_when_the_score_no_longer_rises_and_keeps_the_best(
    scores: list[float], patience: int, epochs: int, best: int
) -> None:
    module, samples = linear(40)
    task, kept = Scripted(scores), []
    learner = Learner(module, task, samples, Recipe(5, 0.1, batch=8, patience=patience))  # type: ignore[arg-type]
    learner.learn(samples, lambda: kept.append(module[1].weight.detach().clone()), silent)
    assert (len(learner.losses), learner.best_epoch) == (epochs, best)
    assert torch.equal(module[1].weight, kept[best - 1])
    assert not module.training


def test_without_patience_the_last_epoch_stays() -> None:
    module, samples = linear(40)
    kept: list[Any] = []
    learner = Learner(module, classification, samples, Recipe(3, 0.1, batch=8))
    learner.learn(None, lambda: kept.append(module[1].weight.detach().clone()), silent)
    assert (learner.best_epoch, learner.scores, learner.best) == (3, [], {})
    assert torch.equal(module[1].weight, kept[2])


def test_a_tenth_of_every_class_is_held_back_and_never_trained_on() -> None:
    samples = load_data("digits", unit_range(8, 8), split="train")
    train, held = hold_back(samples)
    assert not set(train.ids) & set(held.ids)
    assert set(train.ids) | set(held.ids) == set(samples.ids)
    assert np.abs(np.bincount(held.labels) / np.bincount(samples.labels) - 0.1).max() < 0.01  # one of 140 is 0.7 %
    assert not set(held.ids) & set(load_data("digits", unit_range(8, 8), split="test").ids)
    with pytest.raises(BadInput, match="too few samples to hold some back; leave --patience out"):
        hold_back(samples.subset([0]))


# ----------------------------------------------------------------------------------------------------------------- data
def test_images_that_do_not_fit_into_memory_are_decoded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = load_data("shapes:9", unit_range(16, 16))
    picked = np.array([3, 1, 3])
    kept = keep(samples)(picked)
    monkeypatch.setattr(learning, "KEEP_LIMIT_BYTES", 1)
    asked: list[int] = []
    watched = Samples("w", samples.ids, lambda i: asked.append(i) or samples.load(i))
    fetch = keep(watched)
    asked.clear()
    assert np.array_equal(fetch(picked), kept)
    assert asked == [3, 1, 3]


def test_a_module_as_a_runner_is_quiet_and_names_its_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    class Talking(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            print("noise")
            return x + 1, x + 2

    found = runner_of(Talking(), ("a", "b"))({"image": np.zeros(2, np.float32)})
    assert {name: value.tolist() for name, value in found.items()} == {"a": [1, 1], "b": [2, 2]}
    assert capsys.readouterr().out == ""
