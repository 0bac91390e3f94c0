"""Every size that two models leave open is tried."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.compare import check
from edgecnn.feeding import other_sizes
from edgecnn.runners import Subject
from runtimes.session import TensorInfo
from small_nets import model, save


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
