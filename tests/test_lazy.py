"""Layers whose sizes the first input decides are as large as the network's input makes them, weights or not."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn import road
from edgecnn.networks.sources import resolve
from edgecnn.numbers.inspect import inspect
from edgecnn.training.train import train
from runtimes.base import BadInput

HERE = __file__


class Plain(nn.Sequential):
    input_shape = (1, 12, 12)

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 8, 5), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 10))


class Lazy(nn.Sequential):
    input_shape = (1, 12, 12)

    def __init__(self) -> None:
        super().__init__(nn.LazyConv2d(8, 5), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


class Shapeless(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.LazyConv1d(8, 5), nn.Flatten(), nn.LazyLinear(10))


class Two(nn.Module):
    input_shapes: ClassVar = {"left": (4,), "right": (5,)}

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.LazyLinear(3), nn.LazyLinear(3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.left(left) + self.right(right)


class Beside(Lazy):
    def __init__(self) -> None:
        super().__init__()
        self.beside = [nn.LazyLinear(2)]
        self.add_module("aside", self.beside[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in list(self)[:-1]:
            x = layer(x)
        return x


def of(kind: type[nn.Module]) -> str:
    return f"{HERE}:{kind.__name__}"


def test_lazy_layers_become_what_somebody_would_have_written_out() -> None:
    network = resolve(of(Lazy))
    plain = Plain().eval()
    plain.load_state_dict(network.module.state_dict())  # every key and every size
    x = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    assert torch.equal(plain(x), network.module(x))
    assert (network.seeded, network.input_shape) == (True, (1, 12, 12))


def test_the_same_seed_draws_the_same_values() -> None:
    first, again = (resolve(of(Lazy)).module.state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert float(first["0.weight"].std()) > 0


def test_the_shape_that_the_user_says_decides() -> None:
    made = resolve(of(Lazy), input_shape="1,20,16").module.state_dict()
    assert made["4.weight"].shape == (10, 8 * 16 * 12)
    assert resolve(of(Shapeless), input_shape="2,30").module.state_dict()["2.weight"].shape == (10, 8 * 26)
    assert [len(value.T) for name, value in resolve(of(Two)).module.state_dict().items() if "weight" in name] == [4, 5]


def test_weights_are_loaded_into_them(tmp_path: Path) -> None:
    torch.manual_seed(5)
    plain = Plain()
    torch.save(plain.state_dict(), tmp_path / "w.pt")
    network = resolve(of(Lazy), tmp_path / "w.pt")
    assert torch.equal(network.module.state_dict()["4.weight"], plain.state_dict()["4.weight"])


def test_they_are_inspected_exported_and_trained(tmp_path: Path) -> None:
    assert inspect(of(Lazy)).params == inspect(of(Plain)).params
    assert road.export(of(Lazy), tmp_path / "lazy.onnx").stages
    pictures = np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8)
    train(of(Lazy), (pictures, np.arange(40) % 10), tmp_path / "w.safetensors", epochs=1, input_shape="1,16,16")
    assert resolve(of(Lazy), tmp_path / "w.safetensors").input_shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (Shapeless, "Shapeless: has lazy layers, as large as its input makes them, and does not say its input shape; "
         "give --input-shape C,L, or `input_shape` on it"),
        (Beside, "Beside: its forward does not run aside, so that its sizes are unknown; take it out"),
    ],
)  # fmt: skip
def test_what_cannot_be_sized_is_refused(kind: type[nn.Module], line: str) -> None:
    with pytest.raises(BadInput) as error:
        resolve(of(kind))
    assert str(error.value) == line
