"""Raw heads: what a layout is read from, what is refused, and the decoding against greedy suppression in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgecnn import api
from edgecnn.detection.decoding import DecodeHead
from edgecnn.detection.raw import Head, Layout, check_values, layout_of
from edgecnn.networks.sources import resolve
from raw_heads import brute_force, chosen_by_hand
from runtimes.base import Array, BadInput


def drawn(seed: int, first: int, classes: int, places: int, images: int) -> Array:
    """Crowded boxes with scores of 0 to 1, no two alike."""
    rng = np.random.default_rng(seed)
    raw = rng.random((images, first + classes, places))
    raw[:, :2] = raw[:, :2] * 48 + 8
    raw[:, 2:4] = raw[:, 2:4] * 30 + 4
    return raw.astype(np.float32)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["yolov8", "yolov5"]),
    st.integers(1, 4),
    st.integers(1, 40),
    st.integers(1, 3),
    st.floats(0.0, 0.95),
    st.floats(0.05, 0.95),
    st.integers(1, 30),
    st.booleans(),
    st.booleans(),
)
def test_decoding_is_greedy_suppression(
    seed: int, kind: str, classes: int, places: int, images: int, score: float, iou: float, most: int, behind: bool,
    best: bool,
) -> None:  # fmt: skip
    raw = drawn(seed, 4 if kind == "yolov8" else 5, classes, places, images)
    layout = Layout(2 if behind else 1, classes)
    given_raw = torch.from_numpy(raw.transpose(0, 2, 1).copy() if behind else raw)
    boxes, scores, labels, image = (
        value.numpy() for value in DecodeHead(Head(kind, score, iou, most, best), layout)(given_raw)
    )
    assert (boxes.shape[1:], labels.dtype, image.dtype) == ((4,), np.int64, np.int64)
    for i, (want_boxes, want_scores, want_labels) in enumerate(brute_force(raw, kind, score, iou, most, best)):
        here = image == i
        assert labels[here].tolist() == want_labels.tolist()
        np.testing.assert_allclose(scores[here], want_scores, atol=1e-6)
        np.testing.assert_allclose(boxes[here], want_boxes, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 3), st.floats(0.0, 0.95), st.integers(1, 30),
       st.booleans())  # fmt: skip
def test_boxes_that_a_network_chose_are_only_sorted_out(
    seed: int, places: int, images: int, score: float, most: int, turned: bool
) -> None:
    """Overlapping boxes of one class stay, for they were meant."""
    rng = np.random.default_rng(seed)
    raw = rng.random((images, places, 6)).astype(np.float32) * 60
    raw[..., 4], raw[..., 5] = rng.integers(0, 12, (images, places)) / 12, rng.integers(0, 80, (images, places))
    layout = Layout(1 if turned else 2, 0)
    head = DecodeHead(Head("yolov10", score, 0.01, most), layout)
    given_raw = torch.from_numpy(raw.transpose(0, 2, 1).copy() if turned else raw)
    boxes, scores, labels, image = (value.numpy() for value in head(given_raw))
    assert (boxes.shape[1:], labels.dtype, image.dtype) == ((4,), np.int64, np.int64)
    for i, (want_boxes, want_scores, want_labels) in enumerate(chosen_by_hand(raw, score, most)):
        here = image == i
        assert np.array_equal(scores[here], want_scores)
        assert np.array_equal(boxes[here], want_boxes)
        assert np.array_equal(labels[here], want_labels)


@pytest.mark.parametrize(
    ("kind", "shape", "size", "classes", "want"),
    [
        ("yolov10", (1, 300, 6), (640, 640), None, Layout(2, 0)),
        ("yolov10", (1, 6, 300), (640, 640), 80, Layout(1, 80)),
        ("yolov10", (1, 6, 6), None, None, Layout(2, 0)),
        ("yolov8", (1, 84, 8400), (640, 640), None, Layout(1, 80)),
        ("yolov8", (1, 8400, 84), (640, 640), None, Layout(2, 80)),
        ("yolov5", (1, 25200, 85), (640, 640), None, Layout(2, 80)),
        ("yolov5", (1, 85, 25200), (640, 640), None, Layout(1, 80)),
        ("yolov5", (1, 8400, 85), (640, 640), 80, Layout(2, 80)),  # YOLOX
        ("yolov8", (1, 104, 84), (64, 64), None, Layout(1, 100)),  # more classes than places: the grids tell
        ("yolov8", (1, 84, 104), (64, 64), None, Layout(2, 100)),
        ("yolov8", (1, 84, 84), (64, 64), None, Layout(1, 80)),
        ("yolov8", (1, 7, 999), None, None, Layout(1, 3)),
        ("yolov8", (1, 999, 7), None, None, Layout(2, 3)),
        ("yolov8", (1, 999, 7), None, 995, Layout(1, 995)),  # what is known counts
        ("yolov8", (1, 4, 9), None, None, Layout(2, 5)),
    ],
)
def test_the_layout_is_read_from_the_shape(
    kind: str, shape: tuple[int, ...], size: tuple[int, int] | None, classes: int | None, want: Layout
) -> None:
    assert layout_of(Head(kind), shape, size, classes, "net") == want


@pytest.mark.parametrize(
    ("kind", "shape", "classes", "words"),
    [
        ("yolov8", (1, 10), None, r"answers \(1, 10\), and a yolov8 head is \(N, 4 \+ classes, places\)"),
        ("yolov8", (1, 4, 3), None, r"answers \(1, 4, 3\)"),
        ("yolov8", (1, 84, 8400), 79, r"is \(N, 4 \+ 79, places\)"),
        ("yolov5", (1, 84, 8400), 80, r"is \(N, places, 5 \+ 80\)"),
        ("yolov8", (1, 3, 8, 8), None, "answers"),
        ("yolov10", (1, 84, 8400), None, r"is \(N, boxes, 6\): corners, score and class"),
        ("yolov10", (1, 300, 6, 1), None, r"answers \(1, 300, 6, 1\)"),
    ],
)
def test_a_shape_that_does_not_fit(kind: str, shape: tuple[int, ...], classes: int | None, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        layout_of(Head(kind), shape, None, classes, "net")


def test_numbers_that_are_no_head() -> None:
    good = drawn(0, 4, 3, 20, 1)
    check_values(Head(), Layout(1, 3), good, "net")
    logits, shares, broken = good.copy(), good.copy(), good.copy()
    logits[:, 4:] -= 0.5
    shares[:, :4] /= 64
    broken[0, 0, 0] = np.nan
    for raw, words in ((logits, "scores reach from -0.4"), (shares, "are in pixels"), (broken, "NaN")):
        with pytest.raises(BadInput, match=words):
            check_values(Head(), Layout(1, 3), raw, "net")


def test_numbers_that_nobody_chose() -> None:
    head, layout = Head("yolov10"), Layout(2, 0)
    good = np.array([[[4, 5, 30, 40, 0.9, 17], [0, 0, 0, 0, 0.0, 0]]], np.float32)
    check_values(head, layout, good, "net")
    halves, minus, logits, shares = (good.copy() for _ in range(4))
    halves[0, 0, 5], minus[0, 0, 5], logits[0, 0, 4] = 0.5, -1, 1.5
    shares[..., :4] /= 64
    for raw, words in (
        (halves, "classes reach from 0 to 0.5"), (minus, "classes reach from -1"), (shares, "are in pixels"),
        (logits, "scores reach from 0 to 1.5"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=words):
            check_values(head, layout, raw, "net")
    with pytest.raises(BadInput, match="name yolov10, which has six numbers a box"):
        check_values(Head(), Layout(2, 2), good, "net")  # a yolov8 of two classes, by its shape


@pytest.mark.parametrize(
    ("said", "kind"), [("yolo11", "yolov8"), ("yolox:iou=0.6", "yolov5"), ({"head": "yolo26"}, "yolov10")]
)
def test_networks_that_share_a_head(said: str | dict[str, object], kind: str) -> None:
    assert Head.of(said).kind == kind
    assert Head.of("yolov8:best_class=true,most=9") == Head("yolov8", most=9, best_class=True)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("yolov3", "unknown head.*yolov"),
        ("yolov8:skore=1", "unknown setting.*score"),
        ("yolov8:score=2", "score 2.0 must be a number of 0 to 1"),
        ("yolov8:most=0", "most 0"),
        ("yolov8:score", "is no setting"),
        ({"head": "yolov8", "iou": "x"}, "iou x"),
        ({"most": 2.5}, "most 2.5"),
        ({"best_class": 1}, "best_class 1; true or false"),
        ("yolov8:best_class=maybe", "best_class=maybe is no setting"),
    ],
)
def test_heads_that_cannot_be(said: str | dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Head.of(said)


class Det(nn.Module):
    """64 places of 4 + 3 numbers, sharp enough to find something."""

    input_shape = (3, 64, 64)
    decode = "yolov8"

    def __init__(self, heads: int = 1, raw: bool = False) -> None:
        super().__init__()
        self.conv, self.heads, self.raw = nn.Conv2d(3, 7, 8, 8), heads, raw
        ys, xs = torch.meshgrid(torch.arange(8.0) * 8 + 4, torch.arange(8.0) * 8 + 4, indexing="ij")
        self.register_buffer("middle", torch.stack([xs.reshape(-1), ys.reshape(-1)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        seen = self.conv(x).flatten(2)
        sides = 20 + 4 * seen[:, 2:4]
        scores = seen[:, 4:] if self.raw else (4 * seen[:, 4:]).sigmoid()
        answer = torch.cat([self.middle.expand(x.shape[0], 2, 64), sides, scores], 1)
        return answer if self.heads == 1 else (answer, seen)


def test_a_module_says_its_head() -> None:
    network = resolve(Det())
    assert (network.task, network.classes) == ("detection", 3)
    boxes, scores, labels, image = network.module(torch.rand(2, 3, 64, 64))
    assert len(boxes) == len(scores) == len(labels) == len(image) > 0
    assert float(scores.detach().min()) > 0.25
    assert resolve(Det(heads=2)).task == "detection"  # the head, and feature maps that training wants


def test_the_command_line_says_otherwise_than_the_module() -> None:
    strict = resolve(Det(), decode="yolov8:score=0.9")
    assert strict.module.tail.how.low == 0.9  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="unknown head"):
        resolve(Det(), decode="yolo8000")


def test_check_compares_the_boxes_of_heads_that_it_was_told(tmp_path: Path) -> None:
    """Both sides are decoded; without a word on the head its raw numbers are compared."""
    file = tmp_path / "nets.py"
    file.write_text("from test_raw_heads import Det\nclass Raw(Det):\n    decode = None\n")
    told, raw = (api.check(f"{file}:Raw", f"{file}:Raw", decode=head).to_dict() for head in ("yolov8:score=0.5", None))
    assert [out["name"] for out in told["outputs"]] == ["boxes", "scores", "labels", "image"]
    assert told["matching"]["matched"] > 0
    assert len(raw["outputs"]) == 1
    assert "matching" not in raw


def test_a_module_with_another_answer_is_told() -> None:
    module = Det()
    module.decode = "yolov5:iou=7"  # type: ignore[assignment]
    with pytest.raises(BadInput, match=r"Det\.decode: iou 7"):
        resolve(module)
    module.labels = ("a", "b")  # type: ignore[assignment]
    module.decode = "yolov8"  # type: ignore[assignment]
    with pytest.raises(BadInput, match=r"Det: answers \(1, 7, 64\), and a yolov8 head is \(N, 4 \+ 2, places\)"):
        resolve(module)
    with pytest.raises(BadInput, match="Det: its scores reach from"):
        resolve(Det(raw=True))
    with pytest.raises(BadInput, match="Sequential: answers"):
        resolve(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), input_shape="3,2,2", decode="yolov8")
