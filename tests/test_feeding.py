"""Every size that two models leave open is tried."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecnn.checking.compare import check
from edgecnn.checking.diff import diff
from edgecnn.data.feeding import make_feeds, other_sizes
from edgecnn.runners import Subject
from runtimes.base import BadInput
from runtimes.session import TensorInfo
from small_nets import conv_net, model, save


def taking(*shape: int | str) -> Subject:
    return Subject("m", dict, (TensorInfo("x", "float32", shape),), None, False)


@pytest.mark.parametrize(
    ("one", "other", "tried"),
    [
        ((1, 3, 8, 8), (1, 3, 8, 8), []),
        (("N", 3, 8, 8), (1, 3, 8, 8), []),
        (("N", 3, 8, 8), ("B", 3, 8, 8), [(3, 3, 8, 8)]),
        (("N", 3, "H", "W"), ("N", 3, "H", "W"), [(3, 3, 8, 8), (1, 3, 11, 11)]),
        ((1, 3, "H", "W"), (1, 3, 8, "W"), [(1, 3, 8, 11)]),
    ],
)
def test_other_sizes(one: tuple, other: tuple, tried: list) -> None:
    feeds = other_sizes([taking(*one), taking(*other)], {"x": np.zeros((1, 3, 8, 8), np.float32)}, 0)
    assert [given["x"].shape for given in feeds] == tried


def test_a_size_that_only_the_reference_takes_is_a_mismatch(tmp_path: object) -> None:
    """The candidate says that its batch is open, and has it baked in: no test at batch 1 can tell."""
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 2, 4] x) => (float[N, M] y) '
    right = save(model(head + "{ y = Flatten (x) }"), tmp_path / "right.onnx")
    wrong = save(model(head + "{ y = Reshape (x, s) }", s=np.array([1, -1])), tmp_path / "wrong.onnx")
    baked = save(model(head + "{ y = Reshape (x, s) }", s=np.array([1, 8])), tmp_path / "baked.onnx")
    assert check(right, right).sizes == ((1, 2, 4), (3, 2, 4))
    assert "another shape" in check(right, wrong).failures[0]
    assert "input 3x2x4: " in check(right, baked).failures[0]
    assert "takes it and this model does not" in check(right, baked).failures[0]


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))
"""


@pytest.fixture
def sized(tmp_path: Path) -> tuple[str, Path]:
    """A network that works at 224 x 224 unless told otherwise, and a file of another one that is fixed to 8 x 8."""
    (tmp_path / "nets.py").write_text(NET)
    return f"{tmp_path}/nets.py:Net", save(conv_net(), tmp_path / "net.onnx")


def test_a_network_is_built_for_the_fixed_size_of_the_file_beside_it(sized: tuple[str, Path]) -> None:
    assert check(*sized).sizes == ((1, 3, 8, 8), (3, 3, 8, 8))
    report = diff(*sized)
    assert report.first is not None
    assert not report.first.cause  # it runs


def test_sizes_that_no_model_shares_name_the_option(sized: tuple[str, Path], tmp_path: Path) -> None:
    other = save(conv_net(size=12), tmp_path / "other.onnx")
    message = r"other.onnx: its input x is \[N, 3, 12, 12\], that of .*net.onnx \[N, 3, 8, 8\]; give --input-shape"
    for call in (check, diff):
        with pytest.raises(BadInput, match=message):
            call(sized[1], other)
        with pytest.raises(BadInput, match="--input-shape"):
            call(*sized, input_shape="3,12,12")
        with pytest.raises(BadInput, match="--input-shape"):
            call(sized[1], sized[1], input_shape="3,12,12")


def test_the_batch_of_a_shape_may_be_left_out() -> None:
    subject = taking("N", 3, "H", "W")
    for given in ("3,8,9", "x:3,8,9", "1,3,8,9"):
        feeds, _ = make_feeds([subject], None, 1, 0, given, 1)
        assert feeds[0]["x"].shape == (1, 3, 8, 9)
    feeds, _ = make_feeds([subject], None, 4, 0, "3,8,9", 4)
    assert feeds[0]["x"].shape == (4, 3, 8, 9)


def test_inputs_of_one_name_belong_together_wherever_they_stand() -> None:
    ours, theirs = (
        Subject("m", dict, tuple(TensorInfo(n, "float32", (1, size)) for n, size in order), None, False)
        for order in ((("a", 2), ("b", 3)), (("b", 3), ("a", 2)))
    )
    assert make_feeds([ours, theirs], None, 1, 0, None, 1)[0][0]["b"].shape == (1, 3)
