"""What a check calls the outputs of a PyTorch network, and whether it takes their columns for classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from edgecnn import api
from edgecnn.checking.output_names import called_alike
from edgecnn.cli import main
from edgecnn.numbers.torch_numbers import torch_runner
from edgecnn.runners import open_subject
from exporters.artifact import Identity, write_identity
from exporters.graph import copy_model
from exporters.torch_export import export_module
from runtimes.base import BadInput
from small_nets import conv_net, save

NETS = """
import torch
from torch import nn

class Pair(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.c, self.b = nn.Linear(192, 3), nn.Linear(192, 4)

    def forward(self, x):
        x = x.flatten(1)
        return self.c(x), self.b(x)

class Named(Pair):
    def forward(self, x):
        return dict(zip(("cls", "box"), super().forward(x)))
"""


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "nets.py").write_text(NETS)
    return {name: f"{tmp_path / 'nets.py'}:{name}" for name in ("Pair", "Named")}


def exported(source: str, path: Path, **options: object) -> Path:
    from edgecnn.networks.sources import resolve

    return save(export_module(resolve(source).module, (3, 8, 8), **options), path)


def test_a_dict_is_called_by_its_keys(sources: dict[str, str], tmp_path: Path) -> None:
    """As an export calls them, so that a limit for one of them can be given; without a file beside it, too."""
    path = exported(sources["Named"], tmp_path / "m.onnx")
    for pair in ((sources["Named"], path), (path, sources["Named"]), (sources["Named"], sources["Named"])):
        report = api.check(*pair, snr_db="cls:30")
        assert [out.name for out in report.parity.outputs] == ["cls", "box"]
        assert (report.passed, report.snr_db) == (True, {"cls": 30.0})
        with pytest.raises(BadInput, match="output_0"):
            api.check(*pair, snr_db="output_0:30")


def test_outputs_without_names_have_the_files(sources: dict[str, str], tmp_path: Path) -> None:
    path = exported(sources["Pair"], tmp_path / "m.onnx", output_names=("scores", "places"))
    report = api.check(sources["Pair"], path, atol="places:1e-3")
    assert [out.name for out in report.parity.outputs] == ["scores", "places"]
    limits = api.check(sources["Pair"], path)
    assert set(limits.snr_db) == {"scores", "places"}
    assert "float64" in limits.why, "the reference computed otherwise answers under these names, too"
    assert [out.name for out in api.check(sources["Pair"], sources["Pair"]).parity.outputs] == ["output_0", "output_1"]


def test_as_many_outputs_are_needed_for_a_name(sources: dict[str, str], tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    path = save(export_module(net, (3, 8, 8)), tmp_path / "one.onnx")
    subjects = called_alike([open_subject(sources["Pair"]), open_subject(str(path))])
    assert list(subjects[0].runner({"input": torch.zeros(1, 3, 8, 8).numpy()})) == ["output_0", "output_1"]
    assert list(torch_runner(net, (3, 8, 8))({"input": torch.zeros(1, 3, 8, 8).numpy()})) == ["output"]


@pytest.mark.parametrize(("task", "shown"), [("classification", True), ("other", False), (None, True)])
def test_classes_are_counted_only_where_there_may_be_some(
    task: str | None, shown: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Coordinates, a box, a size: which of them is the largest says nothing."""
    net = copy_model(conv_net())
    if task is not None:
        write_identity(net, Identity("net", task=task))
    paths = save(net, tmp_path / "a.onnx"), save(conv_net(), tmp_path / "b.onnx")
    for pair in (paths, paths[::-1]):
        assert main(["check", *map(str, pair)]) == 0
        out = capsys.readouterr().out
        assert ("same top-1" in out) == shown
        assert "cosine" in out
    assert main(["check", *map(str, paths), "--top1", "0.5"]) == 0
    assert "same top-1" in capsys.readouterr().out, "asked for"
    write_identity(net, Identity("net", task="regression"))
    numbers = str(save(net, tmp_path / "c.onnx"))
    assert main(["check", str(paths[1]), numbers, "--top1", "0.5"]) == 2
    assert f"--top1 0.5: the task of {numbers} is regression, whose answers are no classes" in capsys.readouterr().err
    assert main(["check", *map(str, paths), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"][0]["top1"] == 1.0
