"""Where nodes ran: every node is in one place, shape arithmetic apart, and what left the provider is named."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from cuda_stand_in import require_gpu
from runtimes.base import CheckFailed
from runtimes.census import NodeRun, profile
from runtimes.execution.residence import residence, sorted_out
from small_nets import conv_net


def ran(node: str, op: str, provider: str, makes: str) -> NodeRun:
    return NodeRun(node, op, provider, 1.0, outputs=((makes, (2,)),))


RUNS = (
    ran("conv", "Conv", "cuda", "float"),
    ran("shape", "Shape", "cpu", "int64"),
    ran("size", "Gather", "cpu", "int64"),
    ran("pick", "Gather", "cpu", "float"),  # values, not sizes
    ran("to", "MemcpyToHost", "cuda", "float"),
    ran("nms", "NonMaxSuppression", "cpu", "int64"),  # integers, but not of shapes
    ran("back", "MemcpyFromHost", "cuda", "int64"),
    NodeRun("old", "Concat", "cpu", 1.0),  # nothing is known of what it makes
)


def names(runs: tuple[NodeRun, ...]) -> list[str]:
    return [run.node for run in runs]


def test_every_node_is_in_one_place() -> None:
    found = sorted_out(RUNS, "cuda:use_tf32=1")
    assert found.provider == "cuda"
    assert names(found.here) == ["conv"]
    assert names(found.shapes) == ["shape", "size"]
    assert names(found.away) == ["pick", "nms", "old"]
    assert names(found.copies) == ["to", "back"]


def test_what_left_is_named_and_shape_nodes_are_allowed() -> None:
    with pytest.raises(CheckFailed) as caught:
        sorted_out(RUNS, "cuda").require_all("m.onnx")
    assert str(caught.value) == (
        "m.onnx: 3 of 4 nodes ran on cpu, not on cuda: Gather (pick), NonMaxSuppression (nms), Concat (old); "
        "leave out --require-all to allow it"
    )
    fine = sorted_out(RUNS[:3], "cuda")
    assert fine.require_all("m.onnx") is fine


def test_the_words_name_shape_nodes() -> None:
    assert (
        sorted_out(RUNS[:3], "cuda").words == "1 node ran on cuda, 2 shape nodes on cpu: Shape (shape), Gather (size)"
    )
    assert "1 node on cpu: NonMaxSuppression (nms)" in sorted_out(RUNS[5:6], "cuda").words


def test_a_long_list_is_cut_short() -> None:
    many = [ran(f"n{i}", "TopK", "cpu", "float") for i in range(9)]
    with pytest.raises(CheckFailed, match=r"9 of 9 .*TopK \(n2\) and 6 more"):
        sorted_out(many, "cuda").require_all("m.onnx")


def test_the_document_names_what_is_not_there() -> None:
    document = sorted_out(RUNS, "cuda").to_dict()
    assert document["here"] == 1
    assert document["away"][1] == {"node": "nms", "op": "NonMaxSuppression", "provider": "cpu"}
    assert [entry["node"] for entry in document["shapes"]] == ["shape", "size"]


def test_a_real_profile_tells_what_nodes_make() -> None:
    """Integers of shapes and floats of the network, from ONNX Runtime's own profile."""
    graph = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, C] x) => (float[N, C] y, int64[2] s) {'
        " s = Shape(x) y = Sin(x) }"
    )
    runs = {run.op: run.outputs for run in profile(graph, {"x": np.ones((2, 3), np.float32)})}
    assert runs == {"Shape": (("int64", (2,)),), "Sin": (("float", (2, 3)),)}


def test_on_the_cpu_nothing_leaves_the_cpu() -> None:
    found = residence(conv_net(), {"x": np.zeros((1, 3, 8, 8), np.float32)}, "cpu")
    assert found.here
    assert not found.away
    assert not found.copies


@pytest.mark.cuda
def test_on_the_gpu_a_convolutional_network_stays_there() -> None:
    require_gpu()
    found = residence(conv_net(), {"x": np.zeros((1, 3, 8, 8), np.float32)}, "cuda").require_all("net")
    assert "Conv" in {run.op.replace("FusedConv", "Conv") for run in found.here}
