"""A torch.nn.Module stands where a SOURCE may stand, and is refused in one line where only files can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn import api
from edgecnn.given_model import shape_text
from runtimes.base import BadInput


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv1d(2, 8, 3), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).relu().mean(2))


SHAPE = (2, 20)
MACS = 18 * 8 * 6 + 24


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def exported(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("given") / "net.onnx"
    api.export(net, path, input_shape=SHAPE)
    return path


def test_inspect_counts_a_module(net: Net) -> None:
    found = api.inspect(net, input_shape=SHAPE)
    assert (found.model, found.kind, found.macs) == ("Net", "torch", MACS)
    assert found.macs == api.inspect(net, input_shape="2,20").macs


def test_check_and_diff_hold_a_file_against_the_module_and_the_other_way_round(net: Net, exported: Path) -> None:
    assert api.check(exported, net, input_shape=SHAPE).passed
    report = api.check(net, exported, input_shape=SHAPE)
    assert report.passed
    assert report.reference == "Net"
    assert report.next_command.startswith("edgecnn diff Net ")
    assert report.next_command.endswith("--input-shape 2,20")
    assert api.diff(net, exported, input_shape=SHAPE).first is None
    assert not api.check(Net().eval(), exported, input_shape=SHAPE).passed
    assert api.check(net, net, input_shape=SHAPE).passed


def test_evaluate_scores_a_module_as_it_scores_the_file(net: Net, exported: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((30, *SHAPE)).astype(np.float32), np.arange(30) % 3
    one = api.evaluate(net, exported, data=data, input_shape=SHAPE)
    assert [name for name, _ in one.models] == ["Net", str(exported)]
    assert one.difference is not None
    assert one.difference.value == 0


@pytest.mark.parametrize("call", ["bench", "profile"])
def test_what_measures_files_says_so(net: Net, call: str) -> None:
    for given in [net] if call == "profile" else [net, [net]]:
        with pytest.raises(BadInput, match=f"^Net: is a torch.nn.Module; {call} .*export it first$"):
            getattr(api, call)(given)


@pytest.mark.parametrize("call", ["inspect", "check", "diff", "evaluate"])
def test_what_is_no_model_is_one_line(call: str) -> None:
    given = {"inspect": {}, "evaluate": {"data": "digits"}}.get(call, {"candidate": "a.onnx"})
    with pytest.raises(BadInput, match=r"^model: is a int; give a path, the name of a network, or a torch.nn.Module$"):
        getattr(api, call)(3, **given)


def test_shapes_are_spelled_as_commands_do() -> None:
    assert shape_text(["a:3,8,8", "b:4"]) == ["a:3,8,8", "b:4"]
    assert shape_text(None) is None
    assert shape_text(()) == []
