"""Hooks see every module, stop the run where all is there, and put other values in its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.checking.torch_side import module_side
from edgecnn.networks.sources import resolve


class Net(nn.Module):
    """Two convolutions, one ReLU that is called twice (in place), a sum, and a layer that must not run too early."""

    input_shape = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(4, 5)
        self.runs = 0
        self.last.register_forward_hook(lambda *_: setattr(self, "runs", self.runs + 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.one(x))
        return self.last((self.relu(self.two(x)) + x).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net()


X = {"input": np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)}


def test_calls_and_values(net: Net) -> None:
    side = module_side(resolve(net), "net")
    assert [call.name for call in side.calls] == ["one", "relu", "two", "relu#1", "last", ""]
    made = side.open(["one", "relu", "relu#1"])(X)
    with torch.no_grad():
        one = net.one(torch.from_numpy(X["input"]))
    np.testing.assert_array_equal(made["one"], one.numpy())  # as it was before the ReLU worked in place
    np.testing.assert_array_equal(made["relu"], one.relu().numpy())
    assert made["relu#1"].min() == 0


def test_the_run_ends_with_the_last_that_is_wanted(net: Net) -> None:
    side = module_side(resolve(net), "net")
    before = net.runs
    side.open(["two"])(X)
    assert net.runs == before
    side.open([""])(X)
    assert net.runs == before + 1


def test_a_module_alone_on_given_inputs(net: Net) -> None:
    side = module_side(resolve(net), "net")
    given = np.ones((2, 4, 8, 8), np.float32)
    made = side.alone("two", {"relu": given})({**X, "relu": given})["two"]
    with torch.no_grad():
        np.testing.assert_array_equal(made, net.two(torch.ones(2, 4, 8, 8)).numpy())
    assert side.layer("relu#1", []).module == "relu"


def test_outputs_that_are_several_are_calls(net: Net) -> None:
    class Two(Net):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            y = super().forward(x)
            return {"a": y, "b": 2 * y}

    side = module_side(resolve(Two()), "two")
    assert [call.name for call in side.calls][-2:] == ["", "#1"]
    made = side.open(["", "#1"])(X)
    np.testing.assert_array_equal(2 * made[""], made["#1"])
