"""The census against the graph: what must run as an integer kernel does, and every node is counted once."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import cuda_stand_in
from runtimes import census as module
from runtimes.base import BadInput
from runtimes.census import Kernel, NodeRun, census, convolves_in_half, dequantized, kernels, kernels_dict, profile

FLOAT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] y) <float[16, 16, 1, 1] w> {
    [first] a = Conv(x, w)
    [second] b = Sin(a)
    [third] y = Sin(b)
}"""
QDQ = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] y)
<float s = {0.05}, uint8 z = {128}, float ws = {0.01}, int8 wz = {0}, int8[16, 16, 1, 1] w> {
    xq = QuantizeLinear(x, s, z)
    xd = DequantizeLinear(xq, s, z)
    wd = DequantizeLinear(w, ws, wz)
    c = Conv(xd, wd)
    cq = QuantizeLinear(c, s, z)
    y = DequantizeLinear(cq, s, z)
}"""


def model(text: str, dtype: type) -> onnx.ModelProto:
    parsed = parser.parse_model(text)
    kept = [t for t in parsed.graph.initializer if t.name != "w"]
    del parsed.graph.initializer[:]
    values = np.random.default_rng(0).integers(-90, 90, (16, 16, 1, 1)).astype(dtype)
    parsed.graph.initializer.extend([*kept, numpy_helper.from_array(values, "w")])
    return parsed


FEEDS = {"x": np.random.default_rng(1).standard_normal((1, 16, 8, 8)).astype(np.float32)}


def test_every_node_of_one_run_is_counted_once() -> None:
    found = census(model(FLOAT, np.float32), FEEDS)
    assert kernels_dict(k for k in found if not k.op.startswith("Reorder")) == {"Sin": 2, "Conv": 1}
    assert {k.provider for k in found} == {"cpu"}
    assert all(k.time_us >= 0 for k in found)


def test_nodes_keep_their_names_and_order() -> None:
    names = [run.node for run in profile(model(FLOAT, np.float32), FEEDS)]
    assert [name for name in names if not name.startswith("Reorder")][-2:] == ["second", "third"]


def test_an_int8_convolution_runs_as_an_integer_kernel() -> None:
    counts = kernels_dict(census(model(QDQ, np.int8), FEEDS))
    assert counts["QLinearConv"] == 1
    assert "Conv" not in counts


def test_external_data_may_come_from_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model(FLOAT, np.float32), path, save_as_external_data=True, location="w", size_threshold=0)
    found = census(path.read_bytes(), FEEDS, external={"w": (tmp_path / "w").read_bytes()})
    assert kernels_dict(found)["Sin"] == 2


def test_kernels_are_grouped_by_operator_and_provider_the_slowest_first() -> None:
    table = [
        ("a", "Conv", "cpu", 5.0),
        ("b", "Relu", "cpu", 1.0),
        ("c", "Conv", "cuda", 9.0),
        ("d", "Relu", "cpu", 7.0),
    ]
    runs = [NodeRun(*row) for row in table]
    found = kernels(runs)
    assert found == (Kernel("Conv", "cuda", 1, 9.0), Kernel("Relu", "cpu", 2, 8.0), Kernel("Conv", "cpu", 1, 5.0))
    more = (*found, Kernel("Add", "cpu", 3, 0.1))
    assert list(kernels_dict(more).items()) == [("Add", 3), ("Conv", 2), ("Relu", 2)]


def test_int8_on_an_accelerator_is_called_what_it_is() -> None:
    assert dequantized([Kernel("Conv", "cuda", 1, 1.0), Kernel("DequantizeLinear", "cuda", 2, 1.0)])
    assert not dequantized([Kernel("DequantizeLinear", "cpu", 2, 1.0), Kernel("Conv", "cuda", 1, 1.0)])


def test_float16_is_seen_in_what_a_kernel_reads() -> None:
    half, single = (("float16", (1, 4)),), (("float", (1, 4)),)
    runs = [NodeRun("a", "Conv", "cuda", 1.0, half, half), NodeRun("b", "Conv", "cuda", 2.0, single, half)]
    assert convolves_in_half(kernels(runs))
    assert not convolves_in_half(kernels(runs[1:]))
    assert not convolves_in_half(kernels([NodeRun("a", "Conv", "cpu", 1.0, half, half)]))
    assert not convolves_in_half(kernels([NodeRun("a", "MatMul", "cuda", 1.0, half, half)]))


def test_only_the_last_run_and_only_kernels_are_read() -> None:
    def event(name: str, ts: int, dur: int, cat: str = "Node", op: str = "Conv") -> dict:
        return {
            "cat": cat,
            "name": name,
            "ts": ts,
            "dur": dur,
            "args": {"op_name": op, "provider": "CUDAExecutionProvider"},
        }

    events = [
        event("session_initialization", 0, 5, "Session"),
        event("c_kernel_time", 11, 3),
        event("model_run", 10, 10, "Session"),
        event("c_fence_before", 30, 1),
        event("d_kernel_time", 36, 2, op="Relu"),
        event("c_kernel_time", 31, 4),
        event("SequentialExecutor::Execute", 35, 2, "Session"),
        event("not_a_kernel_time", 33, 1, "Session"),
        event("model_run", 30, 10, "Session"),
    ]
    assert module.passes(events)[-1].nodes == (NodeRun("c", "Conv", "cuda", 4.0), NodeRun("d", "Relu", "cuda", 2.0))


def test_every_run_is_read_and_what_ran_in_a_body_is_taken_from_its_node() -> None:
    def event(name: str, ts: int, dur: int, op: str) -> dict:
        args = {"op_name": op, "provider": "CPUExecutionProvider", "activation_size": "8", "output_size": "4"}
        args |= {"parameter_size": "2", "output_type_shape": [{"uint8": [1, 4]}]}
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": args}

    events = [
        {"cat": "Session", "name": "model_run", "ts": 0, "dur": 50},
        event("a", 1, 5, "Conv"),
        {"cat": "Session", "name": "model_run", "ts": 100, "dur": 60},
        event("inner", 112, 10, "Sin"),
        event("deep", 123, 4, "Cos"),
        event("nested", 122, 6, "If"),
        event("loop", 110, 30, "Loop"),
        event("b", 140, 7, "Relu"),
    ]
    first, second = module.passes(events)
    assert (first.time_us, [run.time_us for run in first.nodes]) == (50, [5])
    times = {run.node: run.time_us for run in second.nodes}
    assert times == {"loop": 30 - 10 - 6, "inner": 10, "nested": 6 - 4, "deep": 4, "b": 7}
    assert (first.nodes[0].moved_bytes, first.nodes[0].weight_bytes) == (12, 2)
    assert first.nodes[0].outputs == (("uint8", (1, 4)),)


def test_as_many_runs_as_asked_for_and_the_graph_that_ran() -> None:
    assert [len(nodes) for nodes in module.profiles(model(FLOAT, np.float32), FEEDS, runs=3)].count(0) == 0
    assert len(module.profiles(model(FLOAT, np.float32), FEEDS, runs=3)) == 3
    with module.tracing(model(QDQ, np.int8), keep_graph=True) as tracer:
        tracer(FEEDS)
        ran = onnx.ModelProto.FromString(tracer.graph())
    assert "QLinearConv" in {node.op_type for node in ran.graph.node}


@pytest.mark.parametrize("spoil", [False, True])
def test_no_profile_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: bool) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(module.tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    if spoil:
        with pytest.raises(BadInput, match="input x wants"):
            census(model(FLOAT, np.float32), {"x": FEEDS["x"][0]})
    else:
        census(model(FLOAT, np.float32), FEEDS)
    assert os.listdir(tmp_path) == []


def test_a_profile_that_the_disk_had_no_room_for_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with module.tracing(model(FLOAT, np.float32)) as tracer:
        tracer(FEEDS)
        monkeypatch.setattr(Path, "read_text", lambda self, encoding: '[{"cat" : "Session", "na')
        with pytest.raises(BadInput, match=r"json: the profile is cut off; set TMPDIR to a folder with room"):
            tracer.end()


def test_a_recording_is_profiled_as_what_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay runs no node that could be noted: every node would be missing, and none away from the provider."""
    here = cuda_stand_in.install(monkeypatch)
    feeds = {"x": np.ones((1, 16, 8, 8), np.float32)}
    assert profile(model(FLOAT, np.float32), feeds, "cuda:enable_cuda_graph=1,prefer_nhwc=1")
    ((_, options),) = here.asked
    assert (options["enable_cuda_graph"], options["prefer_nhwc"]) == ("0", "1")


@pytest.mark.cuda
def test_on_the_gpu_a_recording_has_a_census() -> None:
    cuda_stand_in.require_gpu()
    feeds = {"x": np.ones((1, 16, 8, 8), np.float32)}
    found = census(model(FLOAT, np.float32), feeds, "cuda:enable_cuda_graph=1")
    assert {(kernel.op, kernel.provider) for kernel in found} == {("Conv", "cuda"), ("Sin", "cuda")}
