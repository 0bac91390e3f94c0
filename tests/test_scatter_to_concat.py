"""exporters/passes/scatter_to_concat.py against ONNX Runtime's own ScatterND, and against what PyTorch writes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgecnn.float_passes import simplified
from exporters.graph import op_counts
from exporters.passes import drop_noops, scatter_to_concat
from exporters.torch_export import export_module
from pass_examples import build
from pass_examples.scatter_to_concat import EVERY_ROW, NUMBERS, TURN, rows
from runtimes.session import open_session, random_feeds


def run(model: onnx.ModelProto) -> onnx.ModelProto:
    """What the pass makes of `model`: valid, and equal to the last bit for batches of 1 and 3."""
    after = scatter_to_concat.run(model).model
    onnx.checker.check_model(after, full_check=True)
    sessions = [open_session(m, optimize=False) for m in (model, after)]
    for batch in (1, 3):
        sizes = {i.name: tuple(d if isinstance(d, int) else batch for d in i.shape) for i in sessions[0].inputs}
        feeds = random_feeds(sessions[0].inputs, seed=1, sizes=sizes)
        left, right = (session(feeds) for session in sessions)
        for name, value in left.items():
            np.testing.assert_array_equal(value, right[name])
    return after


def net(body: str, u: str = "float[N,2,4,4]", **values: object) -> onnx.ModelProto:
    return build(f"g (float[N,6,4,4] x, {u} u) => (float[N,6,4,4] y) {{ {body} }}", values)


def turned(start: int, stop: int) -> onnx.ModelProto:
    """x[:, start:stop] = u, as the exporter writes it."""
    body = f"a = {TURN} (x) b = {TURN} (u) w = ScatterND (a, i, b) y = {TURN} (w)"
    return net(body, f"float[N,{stop - start},4,4]", i=rows(start, stop))


@pytest.mark.parametrize(
    ("start", "stop", "slices"), [(0, 2, 1), (1, 3, 2), (4, 6, 1), (0, 6, 0)], ids=["left", "middle", "right", "all"]
)
def test_a_written_slice_is_joined_with_what_is_beside_it(start: int, stop: int, slices: int) -> None:
    counts = op_counts(run(turned(start, stop)))
    assert "ScatterND" not in counts
    assert counts.get("Slice", 0) == slices
    assert counts.get("Concat", 0) == (slices > 0)


def test_rows_of_the_first_axis_need_no_transpose() -> None:
    model = build("g (float[5,3] x, float[2,3] u) => (float[5,3] y) { y = ScatterND (x, i, u) }", {"i": rows(2, 4)})
    assert op_counts(run(model)) == {"Slice": 2, "Concat": 1}


def test_only_the_data_is_turned() -> None:
    model = net(f"a = {TURN} (x) w = ScatterND (a, i, u) y = {TURN} (w)", "float[2,N,4,4]", i=rows(1, 3))
    assert op_counts(run(model)) == {"Transpose": 2, "Slice": 2, "Concat": 1}


LEFT = {
    "every second row": net(
        f"a = {TURN} (x) b = {TURN} (u) w = ScatterND (a, i, b) y = {TURN} (w)", i=np.array([[0], [2]])
    ),
    "rows out of order": net(
        f"a = {TURN} (x) b = {TURN} (u) w = ScatterND (a, i, b) y = {TURN} (w)", i=np.array([[2], [1]])
    ),
    "counted from the end": net(
        f"a = {TURN} (x) b = {TURN} (u) w = ScatterND (a, i, b) y = {TURN} (w)", i=np.array([[-2], [-1]])
    ),
    "added": net(
        f"a = {TURN} (x) b = {TURN} (u) w = ScatterND <reduction = \"add\"> (a, i, b) y = {TURN} (w)", i=rows(0, 2)
    ),
    "every row added": net(
        f'{EVERY_ROW} y = ScatterND <reduction = "add"> (x, i, u)', "float[N,6,4,4]", **NUMBERS
    ),
    "as many rows as another tensor has": build(
        "g (float[N,2] x, float[M,2] z) => (float[N,2] y) { s = Shape (z) n = Gather (s, zero) "
        "r = Range (zero, n, one) i = Unsqueeze (r, last) u = Neg (z) y = ScatterND (x, i, u) }",
        NUMBERS,
    ),
    "as many rows as there are channels": build(
        "g (float[N,2] x, float[2,2] z) => (float[N,2] y) { s = Shape (x) n = Gather (s, one) "
        "r = Range (zero, n, one) i = Unsqueeze (r, last) u = Neg (z) y = ScatterND (x, i, u) }",
        NUMBERS,
    ),
    "single numbers": build(
        "g (float[4,3] x, float[1] u) => (float[4,3] y) { y = ScatterND (x, i, u) }", {"i": [[1, 2]]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", LEFT.values(), ids=LEFT)
def test_left_alone(model: onnx.ModelProto) -> None:
    result = scatter_to_concat.run(model)
    assert not result.modified
    assert result.model == model


NOT_ITS_OWN = {
    "other rows": "u = Slice (x, zero, two, channels)",
    "rows of another tensor": "n = Neg (x) u = Slice (n, one, three, channels)",
    "the same rows, shifted down": "s = Slice (x, one, three, channels) u = Pad (s, down)",
    "the rows of a part": "s = Slice (x, from, to, both) u = Pad (s, back)",
}


@pytest.mark.parametrize("made", NOT_ITS_OWN.values(), ids=NOT_ITS_OWN)
def test_rows_that_are_not_its_own_are_written(made: str) -> None:
    numbers = {"i": rows(1, 3), "zero": [0], "one": [1], "two": [2], "three": [3], "channels": [1]}
    pads = {"down": [0, 0, 1, 0, 0, 0, -1, 0], "from": [1, 0], "to": [3, 3], "both": [1, 2], "back": [0] * 6 + [1, 0]}
    body = f"{made} a = {TURN} (x) b = {TURN} (u) w = ScatterND (a, i, b) y = {TURN} (w)"
    model = build(f"g (float[N,6,4,4] x) => (float[N,6,4,4] y) {{ {body} }}", {**numbers, **pads})
    assert op_counts(run(model)).get("Concat") == 1


class Writes(nn.Module):
    """`how` writes into a slice of a convolution's output."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.how = nn.Conv2d(4, 8, 3, padding=1), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if self.how == "assign":
            y[:, :4] = x
        elif self.how == "add":
            y[:, 2:6] += x
        else:
            y = y[:, :4]
            y += x
        return torch.relu(y)


@pytest.mark.parametrize(
    ("how", "left"),
    [
        ("assign", {"Slice": 1, "Concat": 1}),
        ("add", {"Slice": 3, "Concat": 1, "Add": 1}),
        ("part", {"Slice": 1, "Add": 1}),
    ],
)
def test_what_pytorch_writes(how: str, left: dict[str, int]) -> None:
    module = Writes(how).eval()
    model = drop_noops.run(simplified(export_module(module, (4, 6, 6))).model).model
    assert op_counts(model) == {"Conv": 1, "Relu": 1, **left}
    x = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(open_session(model)({"input": x.numpy()})["output"], expected, atol=1e-5)
