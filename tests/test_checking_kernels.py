"""Graphs that are right in their files and wrong on the kernels of this CPU: the loss is found, explained, placed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgecnn.checking import kernels
from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.kernels import Kernels
from edgecnn.checking.sides import graph_side
from edgecnn.cli import main
from exporters.quantization.quantize import Quantized
from exporters.targets import weight_forms
from runtimes.base import Tensors
from runtimes.session import open_session
from test_weight_forms import bright_work, only_where_sums_saturate


def found(quantized: Quantized) -> Kernels:
    work = bright_work("avx2")
    sides = graph_side(work.model, "float"), graph_side(quantized.model, "int8")
    seen = kernels.kernels(compare_sides(*sides, work.images[:2]))
    assert seen is not None
    return seen


def saturating(lost: dict[int, float]) -> Callable[..., Any]:
    """`open_session`, with sessions that are off by a share for each of the convolutions with signed weights."""

    def opened(model: onnx.ModelProto, **options: Any) -> Callable[[Tensors], Tensors]:
        options.pop("subject")
        session = open_session(weight_forms.exact(model), **options)
        types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        layer = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
        convs = [n for n in model.graph.node if n.op_type == "Conv"]
        signed = [i for i, n in enumerate(convs) if types[layer[n.input[1]]] == onnx.TensorProto.INT8]
        off = np.float32(sum(lost[i] for i in signed))
        return lambda given: {name: value * (1 + off) for name, value in session(given).items()}

    return opened


def test_what_saturates_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every CPU: the second convolution is said to lose ten times what the first does, whose weights are larger."""
    monkeypatch.setattr(kernels, "open_session", saturating({0: 0.01, 1: 0.1}))
    seen = found(bright_work("avx2").quantized())
    assert seen.lose
    assert seen.saturate
    assert seen.runs_db == pytest.approx(19.2, abs=1)  # 11 % too much
    assert [(c.layer.node, c.layer.op) for c in seen.layers] == [("Conv_b", "Conv"), ("Conv_a", "Conv")]
    assert [c.snr_db for c in seen.layers] == pytest.approx([20, 40], abs=0.1)
    assert "exceed 16 bits on this CPU and are cut off, most in Conv_b; with exact sums it gives " in seen.words


def test_another_cause_is_not_called_saturation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are wrong whatever the weights are."""

    def opened(model: onnx.ModelProto, **options: Any) -> Callable[[Tensors], Tensors]:
        session = open_session(weight_forms.exact(model), **options)
        return lambda given: {name: value * np.float32(1.1) for name, value in session(given).items()}

    monkeypatch.setattr(kernels, "open_session", opened)
    seen = found(bright_work("avx2").quantized())
    assert (seen.lose, seen.saturate, seen.layers) == (True, False, ())
    assert seen.words.endswith("the kernels that were chosen for it make the difference")


def test_a_graph_that_no_cpu_saturates_loses_nothing() -> None:
    work = bright_work("avx2")
    seen = found(weight_forms.adapt(work, weight_forms.look(work)).quantized())
    assert (seen.lose, seen.exact_db, seen.words) == (False, None, "")


def test_float_candidates_are_not_looked_at() -> None:
    work = bright_work("avx2")
    sides = graph_side(work.model, "float"), graph_side(work.model, "again")
    assert kernels.kernels(compare_sides(*sides, work.images[:1])) is None


@only_where_sums_saturate
def test_check_leads_to_a_diff_that_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real kernels. diff is asked with the limit of check, and answers with its exit code."""
    work = bright_work("avx2")
    ref, int8 = str(tmp_path / "ref.onnx"), str(tmp_path / "int8.onnx")
    onnx.save(work.model, ref)
    onnx.save(work.quantized().model, int8)
    assert main(["check", ref, int8, "--snr-db", "25", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["next"] == f"edgecnn diff {ref} {int8} --snr-db 25"
    assert main(["diff", ref, int8, "--snr-db", "25"]) == 1
    out, err = capsys.readouterr()
    assert f"{int8}: no layer parts from {ref}: " in " ".join(out.split())
    assert "cut off, most in Conv_a; with exact sums it gives " in " ".join(out.split())
    assert err.startswith(f"error: {int8}: ")
    assert err.rstrip().endswith(
        " dB as it runs, the limit is 25.0 dB: sums are cut off at 16 bits on this CPU, most in Conv_a"
    )
    main(["diff", ref, int8, "--json"])
    document = json.loads(capsys.readouterr().out)["kernels"]
    assert document["exact_db"] > document["runs_db"] + 10
    assert document["saturating"][0]["node"] == "Conv_a"
