"""Networks that come wrapped, in half precision, without values, quantized or with a dataclass for an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn import api
from edgecnn.networks.sources import resolve
from edgecnn.networks.unwrapped import unwrapped
from runtimes.base import BadInput
from runtimes.session import open_session


class Net(nn.Module):
    input_shape, labels = (3, 8, 8), ("a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean((2, 3))


class Linear(nn.Sequential):
    input_shape = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(192, 4))


@dataclass
class Out:
    logits: torch.Tensor
    maps: torch.Tensor | None = None


class OneField(Net):
    def forward(self, x: torch.Tensor) -> Out:  # type: ignore[override]
        return Out(super().forward(x))


class TwoFields(Net):
    def forward(self, x: torch.Tensor) -> Out:  # type: ignore[override]
        return Out(super().forward(x), self.conv(x))


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, torch.compile, lambda net: nn.DataParallel(torch.compile(net)), lambda net: net],
    ids=["parallel", "compiled", "both", "plain"],
)
def test_wrappers_are_taken_off(wrap: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    net = Net().eval()
    assert unwrapped(wrap(net), "net") is net
    api.export(wrap(net), tmp_path / "net.onnx")
    picture = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    (found,) = open_session(tmp_path / "net.onnx")({"input": picture}).values()
    with torch.no_grad():
        assert np.allclose(found, net(torch.from_numpy(picture)), atol=1e-5)


def test_the_average_of_a_training_is_taken_out() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(Net())
    assert unwrapped(averaged, "net") is averaged.module


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_becomes_float32_and_the_given_module_stays(kind: torch.dtype) -> None:
    given = Net().to(kind)
    network = resolve(given)
    assert {value.dtype for value in network.module.parameters()} == {torch.float32}
    assert {value.dtype for value in given.parameters()} == {kind}
    assert torch.equal(network.module.conv.weight, given.conv.weight.float())
    assert network.labels == ("a", "b")


def test_a_network_without_values_is_refused() -> None:
    with pytest.raises(BadInput, match=r'^Net: has no values, for it lies on the device "meta"; make it elsewhere'):
        resolve(Net().to("meta"))


def test_one_that_torch_quantized_is_refused() -> None:
    class Quantized(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError("Could not run 'quantized::conv2d.new' with arguments from the 'CPU' backend.")

    with pytest.raises(BadInput, match=r"^Quantized: is quantized by torch.*; give the float network, of which int8"):
        resolve(Quantized())


def test_one_that_torch_has_converted_or_prepares_is_refused() -> None:
    with pytest.warns(), pytest.raises(BadInput, match="it is quantized by torch; give the float network"):
        api.export(torch.ao.quantization.quantize_dynamic(Linear(), {nn.Linear}), "net.onnx")
    prepared = Linear()
    prepared.add_module("watch", torch.ao.quantization.FakeQuantize())
    with pytest.raises(BadInput, match=r"^Linear: is prepared to be quantized by torch; give the float network"):
        resolve(prepared)


def test_what_torch_exported_is_refused() -> None:
    exported = torch.export.export(Net().eval(), (torch.zeros(2, 3, 8, 8),)).module()
    with pytest.raises(
        BadInput, match=r"is what torch\.export made of a network; give the nn\.Module that was exported"
    ):
        resolve(exported)


def test_a_dataclass_is_an_answer_by_its_fields(tmp_path: Path) -> None:
    assert resolve(OneField()).task == "classification"
    assert resolve(TwoFields(), answer="logits").classes == 2
    assert resolve(TwoFields(), task="classification").said.endswith("; --answer NAME says otherwise")
    with pytest.raises(
        BadInput, match=r"answers with an Out, .*; --answer NAME keeps one of logits and maps, or return tensors"
    ):
        resolve(TwoFields())


class Answering(Net):
    """Its answer is what `made` makes of the scores."""

    def __init__(self, made: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.made = made

    def forward(self, x: torch.Tensor) -> object:  # type: ignore[override]
        return self.made(super().forward(x))


@pytest.mark.parametrize(
    "made",
    [lambda scores: (scores, 7), lambda scores: {"kind": "net", "scores": scores, "loss": None}],
    ids=["number", "text"],
)
def test_what_is_no_output_stands_beside_the_only_one(made: Callable[[torch.Tensor], object]) -> None:
    network = resolve(Answering(made))
    assert (network.task, network.classes, network.said) == ("classification", 2, "")


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (lambda scores: scores.numpy(), "answers with a ndarray, .*; mend its forward to return tensors"),
        (lambda scores: [Out(scores)], "answers with an Out, .*; mend its forward to return tensors"),
        (lambda scores: (scores, scores, 7), "answers with an int, .*; --answer NAME keeps one of 0 and 1, or return"),
    ],
    ids=["array", "nested", "number"],
)
def test_what_torch_does_not_export_is_named(made: Callable[[torch.Tensor], object], line: str) -> None:
    with pytest.raises(BadInput, match=line):
        resolve(Answering(made))


def test_an_answer_may_have_a_gradient() -> None:
    def with_gradient(scores: torch.Tensor) -> torch.Tensor:
        return scores.requires_grad_()

    assert not resolve(Answering(with_gradient)).answer({"input": np.zeros((1, 3, 8, 8), np.float32)}).requires_grad
