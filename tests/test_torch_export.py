"""The exporter leaves BatchNorm alone, keeps what it was asked for, and names every node by its module."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from exporters import torch_export
from exporters.graph import MODULE_KEY, get_meta, op_counts, opset
from exporters.torch_export import export_module, module_runner
from runtimes.base import BadInput, Unavailable
from runtimes.parity import compare
from runtimes.session import open_session


def small() -> nn.Module:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    layers = {"stem": stem, "drop": nn.Dropout(0.5), "flat": nn.Flatten(), "head": nn.Linear(8 * 6 * 6, 4)}
    return nn.Sequential(OrderedDict(layers))


def feeds() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"input": rng.normal(size=(n, 3, 6, 6)).astype(np.float32)} for n in (1, 4)]


def test_the_batchnorm_survives_and_the_dropout_does_not() -> None:
    module = small().train()
    model = export_module(module, (3, 6, 6))
    ops = op_counts(model)
    assert ops["BatchNormalization"] == 1
    assert "Dropout" not in ops
    assert module.training  # the caller's flags come back
    assert module.stem[1].training
    reference = module_runner(module, ["output"])
    compare(reference, open_session(model), feeds()).require(snr_db=120)  # float32 sums of 27 and 288 products


def test_every_node_has_its_module_and_no_trace_of_this_machine() -> None:
    model = export_module(small(), (3, 6, 6))
    modules = {n.op_type: get_meta(n)[MODULE_KEY] for n in model.graph.node}
    assert modules["Conv"] == "stem.0"
    assert modules["BatchNormalization"] == "stem.1"
    assert modules["Gemm"] == "head"
    assert len({n.name for n in model.graph.node}) == len(model.graph.node)
    assert next(n.name for n in model.graph.node if n.op_type == "Conv") == "stem.0/Conv"
    text = model.SerializeToString()
    assert __file__.encode() not in text
    assert b"site-packages" not in text


def test_the_batch_is_free_or_one() -> None:
    free = export_module(small(), (3, 6, 6))
    assert open_session(free).inputs[0].shape == ("batch", 3, 6, 6)
    fixed = export_module(small(), (3, 6, 6), dynamic_batch=False)
    assert open_session(fixed).inputs[0].shape == (1, 3, 6, 6)


@pytest.mark.parametrize("version", [17, 18, 20, 21])
def test_the_opset_is_the_one_that_was_asked_for(version: int) -> None:
    module = small()
    model = export_module(module, (3, 6, 6), opset_version=version)
    assert opset(model) == version
    compare(module_runner(module, ["output"]), open_session(model), feeds()).require(snr_db=120)  # as above


def test_an_opset_that_torch_will_not_give_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter answers 17 with 18, without a word, where it cannot convert downwards."""
    given = export_module(small(), (3, 6, 6), opset_version=18)
    monkeypatch.setattr(torch_export, "_to_proto", lambda program: given)
    with pytest.raises(BadInput, match="opset 17: torch's exporter gave 18; ask for --opset 18"):
        export_module(small(), (3, 6, 6), opset_version=17)


def test_the_same_module_gives_the_same_bytes() -> None:
    one, two = (export_module(small(), (3, 6, 6)).SerializeToString() for _ in range(2))
    assert one == two


def test_a_batch_that_is_baked_in_is_an_error() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(2, 108) * 2

    with pytest.raises(BadInput, match=r"batch: tracing fixes it to 2 .* or add --static: one image at a time"):
        export_module(Fixed(), (3, 6, 6))


def test_a_wrong_shape_is_one_line() -> None:
    with pytest.raises(BadInput, match=r"does not run on an input of shape 2,3,7,7: .*; see --input-shape") as caught:
        export_module(small(), (3, 7, 7))
    assert "\n" not in str(caught.value)


def test_an_operator_without_an_onnx_form_is_named() -> None:
    class Inverse(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.inv(x)

    reason = "torch cannot export this network: it has no ONNX form of linalg_inv_ex; write that layer with other"
    with pytest.raises(BadInput, match=reason):
        export_module(Inverse(), (3, 7, 7))


def test_complex_numbers_are_told_as_such() -> None:
    class Turned(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * (1 + 1j)).abs()

    with pytest.raises(
        BadInput, match=r": it computes with complex numbers \(mul\); write that with real and imaginary"
    ):
        export_module(Turned(), (3, 7, 7))


def test_a_forward_of_any_arguments_is_exported_with_a_free_batch() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()

        def forward(self, *args: torch.Tensor, **kwargs: object) -> torch.Tensor:
            return self.inner(*args, **kwargs)

    model = export_module(Around(), (3, 6, 6))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_an_exporter_that_does_not_fit_torch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def export(*_: object, **__: object) -> None:
        module = "onnxscript._framework_apis.torch_9_9"
        try:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        except ModuleNotFoundError as error:
            raise RuntimeError("Failed to convert; see the report") from error

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(Unavailable, match=r"onnxscript: is not one that this torch .*torch_9_9.*; install a newer"):
        export_module(small(), (3, 6, 6))


def test_what_torch_cannot_trace_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if float(x.sum()) > 0 else x - 1

    with pytest.raises(BadInput, match=r"torch cannot export this network: .*use torch\.where") as caught:
        export_module(Branching(), (3, 4, 4))
    assert "\n" not in str(caught.value)
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""  # torch dumps the whole graph that it has so far


BRANCHING = """from torch import nn


class Branching(nn.Module):
    def forward(self, x):
        y = x + 1
        if y.mean() > 0:
            return y
        return y * 2
"""


def test_a_branch_is_told_by_file_and_line_in_our_words(tmp_path: Path) -> None:
    from edgecnn.networks.callables import find

    (tmp_path / "nets.py").write_text(BRANCHING)
    module = find(str(tmp_path / "nets.py"), "Branching").target()
    said = (
        "torch cannot export this network: it decides at nets.py line 7 by a number that it has computed (an `if`, a "
        "loop or a size), and a graph is one for all inputs; use torch.where, or a fixed size"
    )
    with pytest.raises(BadInput) as caught:
        export_module(module.eval(), (3, 4, 4))
    assert str(caught.value) == said


class Holding(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.last = part, nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.part(x))


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_torchscript_is_told_by_its_name() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    scripted, traced = torch.jit.script(layers), torch.jit.trace(layers, torch.zeros(1, 3, 6, 6))
    remedy = "TorchScript; give the nn.Module that was scripted or traced$"
    for module in (scripted, traced):
        with pytest.raises(BadInput, match=f"^torch cannot export this network: it is {remedy}"):
            export_module(module, (3, 6, 6))
        with pytest.raises(BadInput, match=f"^torch cannot export this network: its part part is {remedy}"):
            export_module(Holding(module).eval(), (3, 6, 6))


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_a_traced_part_that_can_be_exported_is() -> None:
    part = torch.jit.trace(nn.ReLU(), torch.zeros(1, 4, 6, 6))
    ops = op_counts(export_module(Holding(part).eval(), (4, 6, 6)))
    assert ops == {"Relu": 1, "Conv": 1}


def test_several_outputs_keep_their_order() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"b": x * 2, "a": x + 1}

    class Pair(Two):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            return x * 2, x + 1

    feed = {"input": np.ones((1, 1, 2, 2), np.float32)}
    for module, names in ((Two(), ["b", "a"]), (Pair(), ["out_0", "out_1"])):
        model = export_module(module, (1, 2, 2), output_names=("out",))
        assert [info.name for info in open_session(model).outputs] == names
        compare(module_runner(module, names), open_session(model), [feed]).require(max_abs=0.0)


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_in_three_dimensions_runs_with_and_without_bias(bias: bool) -> None:
    """The exporter gives one without bias a bias of shape (O, 2), which ONNX Runtime refuses when it runs."""
    module = nn.Sequential(nn.Conv3d(2, 3, 3, bias=bias), nn.BatchNorm3d(3))
    model = export_module(module, (2, 5, 6, 4))
    assert len(next(n for n in model.graph.node if n.op_type == "Conv").input) == (3 if bias else 2)
    feed = {"input": np.random.default_rng(0).normal(size=(2, 2, 5, 6, 4)).astype(np.float32)}
    compare(module_runner(module, ["output"]), open_session(model), [feed]).require(snr_db=120)  # sums of 54 products


def test_the_size_is_open_where_that_is_asked_for() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Upsample(scale_factor=2))
    model = export_module(module, (3, 8, 8), dynamic_size=True)
    session = open_session(model)
    assert session.inputs[0].shape == ("batch", 3, "height", "width")
    pictures = [np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32) for size in ((8, 8), (5, 14))]
    reference = module_runner(module, ["output"])
    compare(reference, session, [{"input": x} for x in pictures]).require(snr_db=120)  # sums of 27 products
    one = export_module(nn.Conv1d(2, 2, 3), (2, 9), dynamic_size=True, dynamic_batch=False)
    assert open_session(one).inputs[0].shape == (1, 2, "length")


def test_zeros_that_the_module_has_stay_and_zeros_that_the_exporter_adds_go() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 3))
    nn.init.zeros_(module[1].bias)  # type: ignore[arg-type]
    model = export_module(module, (3, 6, 6))
    assert sorted(value.name for value in model.graph.initializer) == ["0.weight", "1.bias", "1.weight"]
    compare(module_runner(module, ["output"]), open_session(model), feeds()).require(snr_db=120)  # sums of 36 products
