"""Checkpoints of a network inside another module, as PyTorch Lightning writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgecnn import api
from edgecnn.networks.key_prefix import prefix_of, prefixes
from edgecnn.networks.sources import resolve
from edgecnn.networks.weights import apply_weights
from runtimes.base import BadInput

NET = """
from torch import nn
class Net(nn.Module):
    input_shape = (1, 8, 8)
    preprocess = {"mean": [0.5], "std": [0.3]}
    def __init__(self, num_classes=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4 * 36, num_classes)
    def forward(self, x):
        return self.head(self.stem(x).flatten(1))
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    return resolve("net.py:Net", num_classes=7).module


def lightning(net: nn.Module, prefix: str, **more: torch.Tensor) -> Path:
    state = {prefix + key: value for key, value in net.state_dict().items()} | more
    torch.save({"state_dict": state, "epoch": 3, "global_step": 90}, "last.ckpt")
    return Path("last.ckpt")


@pytest.mark.parametrize("prefix", ["model.", "net.backbone.", "module.model.", "head."])
def test_one_prefix_of_all_keys_is_left_out_and_told(prefix: str, net: nn.Module) -> None:
    found = resolve("net.py:Net", lightning(net, prefix))
    same = zip(found.module.state_dict().values(), net.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert found.classes == 7  # read off the weights
    report = api.export("net.py:Net", "net.onnx", weights="last.ckpt")
    left = prefix.removeprefix("module.")
    assert report.notes[1] == f"weights: every key begins with {left!r}, which the network's do not; it was left out"


def test_nothing_is_told_where_keys_fit(net: nn.Module) -> None:
    assert len(api.export("net.py:Net", "net.onnx", weights=lightning(net, "")).notes) == 1
    assert len(api.export("net.py:Net", "seeded.onnx").notes) == 2  # that its weights are random


def test_older_checkpoints_without_a_counter(net: nn.Module) -> None:
    state = {f"m.{k}": v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    apply_weights(resolve("net.py:Net", num_classes=7).module, state)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"loss.weight": torch.ones(4)}, "beside loss.weight; save"),
        ({"loss.weight": torch.ones(4), "acc.total": torch.ones(1)}, "beside loss.weight and 1 more; save"),
        ({"model.teacher.weight": torch.ones(4)}, "beside model.teacher.weight; save"),
    ],
)
def test_what_holds_more_is_refused_by_the_prefix(more: dict[str, Any], said: str, net: nn.Module) -> None:
    with pytest.raises(BadInput) as caught:
        resolve("net.py:Net", lightning(net, "model.", **more))
    assert str(caught.value).startswith("last.ckpt: the network's keys begin with 'model.' there, " + said)


def test_another_network_is_no_matter_of_prefixes(net: nn.Module) -> None:
    wanted = net.state_dict()
    assert prefixes(wanted, ["model.stem.0.weight", "model.other"]) == []
    assert prefix_of(wanted, wanted) == prefix_of(wanted, []) == prefix_of({}, ["a.b"]) == ""
    with pytest.raises(BadInput, match=r"stem\.0\.weight is missing"):
        resolve("net.py:Net", lightning(nn.Sequential(nn.Conv2d(1, 2, 3)), "model."))
