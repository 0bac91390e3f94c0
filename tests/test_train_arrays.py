"""Networks that take no pictures, signals (C, L) and volumes (C, D, H, W), are trained on float arrays as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.evaluation.evaluate import evaluate
from edgecnn.networks.sources import resolve
from edgecnn.networks.weights import load_weights
from edgecnn.training.qat import COMPUTE, simulated_int8
from edgecnn.training.train import train
from runtimes.base import BadInput

HERE = __file__


class Tones(nn.Sequential):
    input_shape = (2, 48)

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(
            nn.Conv1d(2, 8, 5, 2, 2), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 16, 5, 2, 2), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, num_classes),
        )  # fmt: skip


class Solid(nn.Sequential):
    input_shape = (1, 6, 8, 8)

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__(
            nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(),
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, num_classes),
        )  # fmt: skip


def tones(count: int = 240, length: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """One of three pitches in two channels, in noise, from any phase."""
    order = np.random.default_rng(0)
    labels = np.arange(count) % 3
    turns = np.arange(length) * (0.2 + 0.25 * labels[:, None]) + order.uniform(0, 6, (count, 1))
    clean = np.stack([np.sin(turns), np.cos(turns)], 1)
    return (clean + order.normal(0, 0.2, clean.shape)).astype(np.float32), labels


def solids() -> tuple[np.ndarray, np.ndarray]:
    """Layers along the depth, thick or thin."""
    order = np.random.default_rng(0)
    labels = np.arange(120) % 2
    layers = np.sin(np.arange(6) * (0.6 + 1.5 * labels[:, None]) + order.uniform(0, 6, (120, 1)))
    noise = order.normal(0, 0.2, (120, 1, 6, 8, 8))
    return (noise + layers[:, None, :, None, None]).astype(np.float32), labels


def test_signals_are_learned_and_scored_like_pictures(tmp_path: Path) -> None:
    weights = tmp_path / "tones.safetensors"
    report = train(f"{HERE}:Tones", tones(), weights, epochs=4)
    assert report.test_score >= 0.9  # by chance a third
    assert (report.train_images, report.test_images) == (192, 48)
    _, about = load_weights(weights)
    assert about is not None
    assert (about.input_shape, about.preprocess, about.task) == ((2, 48), None, "classification")
    network = resolve(f"{HERE}:Tones", weights=weights)
    images, labels = tones()
    with torch.no_grad():
        right = (network.module(torch.from_numpy(images)).argmax(1).numpy() == labels).mean()
    assert right >= 0.9
    scored = evaluate(f"{HERE}:Tones", data=(images, labels), weights=weights)
    ((_, score),) = scored.models
    assert (scored.held_out, score.images, score.value) == (True, 48, report.test_score)


def test_the_length_is_the_users_and_the_weights_keep_it(tmp_path: Path) -> None:
    weights = tmp_path / "long.safetensors"
    train(f"{HERE}:Tones", tones(60, 64), weights, epochs=1, input_shape="2,64")
    _, about = load_weights(weights)
    assert about is not None
    assert about.input_shape == (2, 64)
    assert resolve(f"{HERE}:Tones", weights=weights).input_shape == (2, 64)


def test_volumes_are_learned_with_int8_simulated(tmp_path: Path) -> None:
    report = train(f"{HERE}:Solid", solids(), tmp_path / "w.safetensors", epochs=4, qat=True, patience=4)
    assert report.qat
    assert report.test_score >= 0.9


@pytest.mark.parametrize(("net", "shape"), [(Tones, (4, 2, 48)), (Solid, (4, 1, 6, 8, 8))])
def test_every_convolution_is_on_the_grid_of_int8(net: type[nn.Module], shape: tuple[int, ...]) -> None:
    module, batch = net().eval(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layers = [layer for layer in module.modules() if isinstance(layer, COMPUTE)]
    plain = module(batch)
    with simulated_int8(module, [batch]):
        for layer in layers:
            rows = layer.weight.detach().flatten(1)
            steps = rows / (rows.abs().amax(1, keepdim=True) / 127)
            assert (steps - steps.round()).abs().max() < 1e-3
        assert not torch.equal(module(batch), plain)
    assert len(layers) == {Tones: 3, Solid: 2}[net]


@pytest.mark.parametrize(
    ("data", "options", "complaint"),
    [
        ((tones()[0][:, :, :40], tones()[1]), {}, r"float32 \[240, 2, 40\]; this network needs float \[N, 2, 48\]"),
        ("digits", {}, r"digits: this network takes \[N, 2, 48\], no pictures"),
        (tones(), {"preprocess": "unit"}, r"--preprocess unit: the network takes \[2, 48\], no pictures; leave it out"),
        (tones(), {"task": "segmentation"}, "no classes to learn for segmentation"),
    ],
)
def test_what_is_no_signal_is_refused(data: object, options: dict, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=complaint):
        train(f"{HERE}:Tones", data, tmp_path / "w.safetensors", epochs=1, **options)
    assert not list(tmp_path.iterdir())
