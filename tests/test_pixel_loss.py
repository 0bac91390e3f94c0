"""Segmenters learn from one map or several, from few pixels of a class, and say where they found none of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from edgecnn.cli import main
from edgecnn.evaluation.evaluate import evaluate
from edgecnn.training.learning import runner_of
from edgecnn.training.pixel_loss import overlap, pixel_loss
from edgecnn.training.train import train
from runtimes.base import BadInput

MASKS = torch.tensor([[[0, 1, 255], [0, 0, 1]]])
MAP = torch.tensor([[[[-2.0, 1.0, 9.0], [0.5, -1.0, 3.0]]]])

NETS = """
import torch
from torch import nn


class One(nn.Module):
    input_shape, task, labels = (1, 16, 16), "segmentation", ("background", "spot")
    preprocess = {"mean": [0.3], "std": [0.2]}
    sigmoid = False

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def forward(self, x):
        return torch.sigmoid(self.body(x)) if self.sigmoid else self.body(x)


class Probability(One):
    sigmoid = True


class Blind(One):
    def forward(self, x):
        return self.body(x) * 0 - 1 + 0 * x
"""


def by_hand(probability: np.ndarray) -> float:
    """The mean Dice of two classes, pixel by pixel."""
    kept = MASKS.numpy() != 255
    truth, p = MASKS.numpy()[kept], probability[:, 0][kept]
    pairs = ((1 - p, truth == 0), (p, truth == 1))
    return float(np.mean([2 * (q * t).sum() / (q.sum() + t.sum()) for q, t in pairs]))


def test_one_map_of_logits_is_binary_cross_entropy_and_dice() -> None:
    kept = MASKS != 255
    weights = torch.where(MASKS == 1, 2.0, 3.0).rsqrt()[kept]  # three pixels of background, two of the other class
    for smoothing in (0.0, 0.1):
        wanted = MASKS[kept].float() * (1 - smoothing) + smoothing / 2
        binary = functional.binary_cross_entropy_with_logits(MAP[:, 0][kept], wanted, weights, reduction="sum")
        want = float(binary / weights.sum()) + 1 - by_hand(MAP.sigmoid().numpy())
        assert float(pixel_loss(MAP, MASKS, smoothing)) == pytest.approx(want, abs=1e-6)
        ending = MAP.clone().requires_grad_().sigmoid()
        assert float(pixel_loss(ending, MASKS, smoothing).detach()) == pytest.approx(want, abs=1e-6)
        both = torch.cat([torch.zeros_like(MAP), MAP], 1)
        assert float(pixel_loss(both, MASKS, smoothing)) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_counts_for_nothing_has_no_gradient(channels: int) -> None:
    for ending in (nn.Identity(), nn.Sigmoid()):
        answer = torch.randn(1, channels, 2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
        pixel_loss(ending(answer), MASKS, 0.1).backward()
        assert answer.grad is not None
        assert not answer.grad[..., 0, 2].any()
        assert answer.grad[..., 0, :2].all()


def test_a_class_that_is_not_there_does_not_count() -> None:
    shares = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 0.0]]]])
    third = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 1.0]]]])
    assert float(overlap(shares, shares)) == 1
    assert float(overlap(shares, third)) == 0.5
    nothing = torch.full((1, 1, 2), 255)
    assert float(overlap(shares, shares * 0)) == 0
    assert float(pixel_loss(shares, nothing, 0.1)) == 1, "a batch without a pixel that counts is no NaN"


def spots(root: Path, count: int = 60) -> Path:
    """Bright spots of four pixels in 256, a border of 255, and names."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        grey, mask = rng.integers(40, 90, (16, 16), np.uint8), np.zeros((16, 16), np.uint8)
        y, x = rng.integers(2, 13, 2)
        grey[y : y + 2, x : x + 2], mask[y : y + 2, x : x + 2], mask[:, 0] = 200, 1, 255
        Image.fromarray(grey).save(root / "images" / f"{i:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i:02}.png")
    (root / "labels.txt").write_text("background\nspot\n")
    return root


@pytest.mark.parametrize("name", ["One", "Probability"])
def test_a_network_of_one_map_learns_few_pixels(name: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    data, source, weights = spots(tmp_path / "d"), f"{tmp_path / 'nets.py'}:{name}", tmp_path / "w.safetensors"
    report = train(source, str(data), weights, epochs=8, batch=4)
    assert (report.classes, report.metric, report.warnings) == (2, "mIoU", ())
    assert report.test_score > 0.9
    scored = evaluate(source, data=str(data), weights=weights)
    assert scored.models[0][1].value == pytest.approx(report.test_score, abs=1e-6)
    assert not scored.warnings


def test_a_network_that_finds_no_pixel_of_a_class_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    data, source, weights = spots(tmp_path / "d"), f"{tmp_path / 'nets.py'}:Blind", tmp_path / "w.safetensors"
    assert main(["train", source, "--data", str(data), "--epochs", "1", "-o", str(weights), "--json"]) == 0
    said = capsys.readouterr()
    line = "Blind: no pixel of class spot is right on 12 images: more epochs or pictures with it"
    assert line in said.err
    assert any(line in one for one in json.loads(said.out)["warnings"])
    (line,) = evaluate(source, data=str(data), weights=weights).warnings
    assert "Blind: no pixel of class spot is right on 12 images: other preprocessing" in line


def test_one_map_is_for_two_classes(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    data = spots(tmp_path / "d", 10)
    (data / "labels.txt").write_text("a\nb\nc\n")
    with pytest.raises(BadInput, match=r"answers \[1, 1, 16, 16\], but .* has 3 classes; let its answer have as many"):
        train(f"{tmp_path / 'nets.py'}:One", str(data), tmp_path / "w.safetensors")


def test_as_a_runner_one_map_is_two() -> None:
    for ending in (nn.Identity(), nn.Sigmoid()):
        (found,) = runner_of(nn.Sequential(nn.Identity(), ending), ("logits",))({"image": MAP.numpy()}).values()
        assert found.shape == (1, 2, 2, 3)
        assert np.array_equal(found.argmax(1)[0], MAP[0, 0].numpy() > 0)
