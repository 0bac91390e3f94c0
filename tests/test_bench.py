"""The benches: a page's table is the one that the committed results make, and every script says how to run it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from small_nets import model

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "bench"))  # as `python bench/SCRIPT.py` has it
SCRIPTS = sorted((ROOT / "bench").glob("*.py"))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


NAMES = ("latency", "int8", "zoo", "averages", "memory", "forms", "letterbox", "pictures", "web")
latency, int8, zoo, averages, memory, forms, letterbox, pictures, web = (
    load(ROOT / f"bench/{name}.py") for name in NAMES
)


@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("docs/bench.md", latency.tables()),
        ("README.md", int8.tables()),
        ("docs/zoo.md", zoo.tables()),
        ("docs/rewrites.md", averages.table()),
        ("docs/calibration.md", memory.tables()),
        ("docs/targets.md", forms.tables()),
        ("docs/detectors.md", letterbox.table()),
        ("docs/preprocess.md", pictures.table()),
        ("docs/web.md", web.tables()),
    ],
)
def test_the_pages_show_the_committed_results(page: str, made: str) -> None:
    assert made
    assert made in (ROOT / page).read_text("utf-8")


def test_what_is_shipped_is_never_slower_than_float() -> None:
    """At the upper end of its interval; where float is shipped there is nothing to race."""
    rows = [row for table in (*int8.results(), *zoo.results()) for row in table]
    assert rows
    assert [r["network"] for r in rows if r["chosen"] != "float" and r["ours"]["ratio"]["high"] < 1.0] == []


def test_a_network_below_one_and_a_half_has_a_reason() -> None:
    """Named are the kinds of layer that take most over two thirds of their time in float."""
    assert zoo.reason({"a": [30.0, 10.0], "b": [30.0, 30.0], "c": [9.0, 12.0]}) == (
        "b: float 30 us, int8 30 us; c: float 9 us, int8 12 us"
    )
    assert "between" in zoo.reason({"a": [30.0, 10.0]})
    rows = [row for table in zoo.results() for row in table]
    assert all(zoo.line(row).endswith("|  |") == (int8.speed(row, "ours") >= zoo.SLOW) for row in rows)


def test_a_detector_ends_with_its_last_convolutions() -> None:
    net = model("""<ir_version: 9, opset_import: ["" : 18]>
        net (float[1,4,4,4] x) => (int64[M,3] found) {
            b = Conv (x, w)
            s = Conv (x, v)
            p = Constant <value_ints = [1, 16, 4]> ()
            q = Constant <value_ints = [1, 1, 16]> ()
            n = Constant <value_ints = [5]> ()
            boxes = Reshape (b, p)
            scores = Reshape (s, q)
            found = NonMaxSuppression (boxes, scores, n)
        }""", w=np.ones((4, 4, 1, 1), np.float32), v=np.ones((1, 4, 1, 1), np.float32))  # fmt: skip
    cut = int8.without_tail(net)
    onnx.checker.check_model(cut)
    assert [value.name for value in cut.graph.output] == ["b", "s"]
    assert [node.op_type for node in cut.graph.node] == ["Conv", "Conv"]
    assert int8.without_tail(cut) is cut


def test_a_constant_that_the_body_reads_stays_there() -> None:
    net = model("""<ir_version: 9, opset_import: ["" : 18]>
        net (float[1,4,2,2] x) => (int64[M,3] found) {
            c = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> ()
            r = Resize (x, , c)
            b = Conv (r, w)
            p = Constant <value_ints = [1, 16, 4]> ()
            boxes = Reshape (b, p)
            scores = Reshape (b, q)
            found = NonMaxSuppression (boxes, scores)
        }""", w=np.ones((4, 4, 1, 1), np.float32), q=np.array([1, 4, 16]))  # fmt: skip
    cut = int8.without_tail(net)
    assert [value.name for value in cut.graph.output] == ["b"]
    assert [node.op_type for node in cut.graph.node] == ["Constant", "Resize", "Conv"]


def test_a_missed_target_is_named() -> None:
    machine = {"isa": ["avx2", "vnni"]}
    row = {"network": "resnet18", "chosen": "int8", "machine": machine, "ours": {"ratio": {"ratio": 2.9}}}
    assert int8.missed([row]) == "resnet18: 2.90x, wanted 3.0x"
    assert int8.missed([{**row, "machine": {"isa": ["avx2"]}}]) == ""  # targets are for VNNI
    assert int8.missed([{**row, "ours": {"ratio": {"ratio": 3.0}}}]) == ""


def test_the_committed_results_reach_the_target() -> None:
    """ResNet-18 in int8 at least 2.5 times as fast as float on a VNNI CPU, at the lower end of its interval."""
    rows = [row for table in latency.results() for row in table if row["network"] == "resnet18"]
    measured = [row for row in rows if "vnni" in row["machine"]["isa"]]
    assert measured
    assert all(row["int8"]["ratio"]["low"] >= 2.5 and row["kernels"]["QLinearConv"] == 20 for row in measured)


def test_check_fails_below_the_target(capsys: pytest.CaptureFixture[str]) -> None:
    (rows,) = [table for table in latency.results() if table[0]["network"] == "resnet18"][:1]
    assert latency.check(rows) == 0
    slow = json.loads(json.dumps(rows))
    slow[0]["int8"]["ratio"]["low"] = 2.4
    assert latency.check(slow) == 1
    assert "wanted 2.5x" in capsys.readouterr().out


def test_one_network_can_be_measured() -> None:
    row = latency.measure("lenet5", rounds=8, seconds=2.0)
    assert set(row) >= {"float", "int8", "ort_default", "ort_best", "machine", "kernels", "rounds", "clock"}
    assert row["kernels"]["QLinearConv"] == 2
    assert row["int8"]["snr_db"] > 25  # three layers of 8 bits
    assert row["int8"]["size_bytes"] < row["float"]["size_bytes"] / 3
    assert latency.table([row]).count("| `lenet5` |") == 1


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_script_says_how_to_run_it(path: Path) -> None:
    assert f"python bench/{path.name}" in (load(path).__doc__ or "")
