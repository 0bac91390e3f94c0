"""Maps in every layout are the same classes: the axis that holds them, scores, predictions, int8 and the report."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from edgecnn.cli import main
from edgecnn.evaluation.evaluate import classes_of as counted
from edgecnn.evaluation.evaluate import task_of
from edgecnn.runners import open_subject
from edgecnn.tasks import segmentation
from runtimes.base import Array, BadInput
from runtimes.imaging.maps import NONE, Seen, are_classes, class_axis, classes_of, count_of, is_map
from runtimes.proof.answers import mask_of
from test_channels_last import channels_last

SIZE, CLASSES = 16, 4
PIXELS = ("--preprocess", "imagenet")
QUICK = ("--search-budget", "0", "--allow-slower", "--max-drop", "1", *PIXELS)
LAYOUTS = ("first", "last", "last of first", "classes", "classes last", "classes, kept")


@pytest.mark.parametrize(
    ("answer", "seen", "axis"),
    [
        ((21, 64, 48), Seen((64, 48)), 0),
        ((64, 48, 21), Seen((64, 48)), 2),
        ((64, 48, 21), Seen((64, 48), True), 2),
        ((64, 48, 64), Seen((64, 48)), 2),  # not 48x64 pixels
        ((64, 32, 16), Seen((64, 32)), 2),  # 32x16 is in proportion, 64x32 is the same
        ((32, 24, 21), Seen((64, 48), True), 2),  # half the size
        ((21, 32, 24), Seen((64, 48), True), 0),
        ((32, 32, 32), Seen((32, 32)), 0),  # both fit: as the input
        ((32, 32, 32), Seen((32, 32), True), 2),
        ((5, 9, 7), Seen((32, 32), True), 2),  # neither fits
        ((None, 9, 21), Seen((32, 32)), 2),  # neither fits, and an open number of classes is none
        ((7, 9, None), Seen((32, 32), True), 0),
        ((None, "w", 21), Seen(("h", "w")), 2),  # sides are open, classes are not
        ((21, "h", "w"), Seen(("h", "w"), True), 0),
        ((None, None, None), Seen((None, None), True), 2),
    ],
)
def test_the_axis_of_the_classes(answer: tuple[object, ...], seen: Seen, axis: int) -> None:
    assert class_axis(answer, seen) == axis


def test_what_is_a_map() -> None:
    assert [is_map(s, False) for s in ((5, 8, 8), (8, 8, 5), (1, 8, 8), (8, 8, 1), (8, 8), (5,))] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert [are_classes(s, True) for s in ((5, 8, 8), (1, 8, 8), (8, 8, 1), (8, 8), (5,))] == [
        False, True, True, True, False,
    ]  # fmt: skip
    assert Seen.of((8, 9, 3)) == Seen((8, 9), True)
    assert Seen.of((8,)) == Seen()
    assert count_of((8, 9, 5), False, Seen((8, 9), True)) == 5
    assert count_of((8, 9), True, Seen((8, 9))) is None


def laid_out(logits: Array, layout: str) -> Array:
    """(N, C, H, W) as another exporter leaves it."""
    classes = logits.argmax(1)
    return {
        "first": logits, "last": logits.transpose(0, 2, 3, 1), "last of first": logits.transpose(0, 2, 3, 1),
        "classes": classes, "classes last": classes[..., None].astype(np.int32),
        "classes, kept": classes[:, None].astype(np.uint8),
    }[layout]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_has_the_same_classes_and_counts(layout: str) -> None:
    rng = np.random.default_rng(0)
    logits, mask = rng.standard_normal((1, CLASSES, 12, 10)), rng.integers(0, CLASSES, (12, 10)).astype(np.uint8)
    (given,), seen = laid_out(logits, layout), Seen((12, 10), layout.startswith("last"))
    assert np.array_equal(classes_of(given, seen), logits[0].argmax(0))
    wanted = segmentation.counts(logits[0], mask)
    for ours, theirs in zip(wanted, segmentation.counts(given, mask, seen=seen), strict=True):
        assert theirs[:CLASSES].tolist() == ours.tolist()
        assert theirs[CLASSES:].sum() == 0


def test_scores_that_are_not_finite_are_no_class() -> None:
    scores = np.ones((2, 3, 4))
    scores[1, 2, 0] = np.nan
    assert classes_of(scores, Seen((2, 3), True)).tolist() == [[0, 0, 0], [0, 0, NONE]]
    with pytest.raises(BadInput, match=r"output: is \[2, 3, 4\] for one image; mIoU needs \(classes, 5, 6\) or"):
        segmentation.counts(scores, np.zeros((5, 6), np.uint8))


def answering(value: Array, feeds: object) -> dict[str, Array]:
    return {"y": value}


def test_agreement_is_by_pixel_in_every_layout() -> None:
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((2, CLASSES, 8, 6))
    other = logits.copy()
    other[0, :, :2] = other[0, ::-1, :2]
    wanted = float((logits.argmax(1) == other.argmax(1)).mean())
    shares = []
    for layout in LAYOUTS:
        feeds = [{"x": np.zeros((2, 8, 6, 3) if layout == "last" else (2, 3, 8, 6), np.float32)}]
        ours, theirs = laid_out(logits, layout), laid_out(other, layout)
        found = segmentation.agreement(partial(answering, ours), partial(answering, theirs), feeds)
        assert (found.changed, found.images) == (pytest.approx(1 - wanted), 2), layout
        shares.append(found.share)
    assert len({*shares}) == 1, shares
    assert 0 < shares[0] < 1


# ---------------------------------------------------------------------------------------------------- whole models
NET = f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, {SIZE}, {SIZE}] x) => (float[N, {CLASSES}, {SIZE}, {SIZE}] y) {{
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    b = Relu (a)
    y = Conv (b, v)
}}"""


def network() -> onnx.ModelProto:
    model = onnx.parser.parse_model(NET)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (16, 3, 3, 3)), ("v", (CLASSES, 16, 1, 1))):
        value = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


def with_answer(model: onnx.ModelProto, layout: str) -> onnx.ModelProto:
    graph = model.graph
    if layout == "first":
        return model
    for node in graph.node:
        node.output[0] = "scores" if node.output[0] == "y" else node.output[0]
    kind, sizes = onnx.TensorProto.INT64, ["N", SIZE, SIZE]
    if layout.startswith("last"):
        graph.node.append(helper.make_node("Transpose", ["scores"], ["y"], perm=[0, 2, 3, 1]))
        kind, sizes = onnx.TensorProto.FLOAT, [*sizes, CLASSES]
    else:
        kept = {"classes": 0}.get(layout, 1)
        graph.node.append(helper.make_node("ArgMax", ["scores"], ["y"], axis=1, keepdims=kept))
        sizes = [sizes[0], 1, *sizes[1:]] if kept else sizes
    graph.output[0].CopyFrom(helper.make_tensor_value_info("y", kind, sizes))
    return channels_last(model, (SIZE, SIZE)) if layout == "last" else model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder, found = tmp_path_factory.mktemp("maps"), {}
    for layout in ("first", "last", "last of first", "classes", "classes, kept"):
        found[layout] = str(folder / f"{layout.replace(' ', '_').replace(',', '')}.onnx")
        onnx.save(with_answer(network(), layout), found[layout])
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> str:
    """16 pictures, whose masks are what the network says of them but for a stripe."""
    root = tmp_path_factory.mktemp("photos")
    rng, subject = np.random.default_rng(0), open_subject(models["first"])
    assert subject.preprocess is not None
    for i in range(16):
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        (logits,) = subject.runner({"x": subject.preprocess(pixels)[None]}).values()
        mask = logits[0].argmax(0).astype(np.uint8)
        mask[:3] = i % CLASSES
        for kind, value in (("images", pixels), ("masks", mask)):
            (root / kind).mkdir(exist_ok=True)
            Image.fromarray(value).save(root / kind / f"{i}.png")
    return str(root)


def said(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main([*args, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_evaluate_scores_each_layout_alike(
    models: dict[str, str], photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for layout, path in models.items():
        assert task_of(open_subject(path)) == "segmentation"
        assert counted(open_subject(path)) == (None if "classes" in layout else CLASSES)
        (found[layout],) = said(capsys, "evaluate", path, "--data", photos, *PIXELS)["models"]
        del found[layout]["model"]
    assert found["first"]["value"] > 0.4
    assert list(found["first"]["iou"]) == ["0", "1", "2", "3"]
    for layout, row in found.items():
        assert row == found["first"], layout


@pytest.mark.parametrize("layout", ["last", "classes"])
def test_from_a_file_to_a_bundle_that_answers_with_masks(
    layout: str, models: dict[str, str], photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("ground\nred\ngreen\nblue\n")
    masks = []
    for name in ("first", layout):
        path, out = str(tmp_path / f"{name}.edge"), str(tmp_path / name)
        made = said(capsys, "quantize", models[name], "-o", path, "--calib", photos, "--data", photos,
                    "--labels", str(names), *QUICK)  # fmt: skip
        assert made["accuracy"]["float"] > 0.4
        picture = f"{photos}/images/3.png"
        (answer,) = said(capsys, "run", path, picture, "--save", out)["predictions"]
        assert {c["label"] for c in answer["mask"]["classes"]} <= {"ground", "red", "green", "blue"}
        masks.append(np.asarray(Image.open(f"{out}/3.mask.png")))
    assert masks[0].shape == (SIZE, SIZE)
    assert (masks[0] == masks[1]).mean() > 0.9  # both were quantized, on graphs of their own
    page = tmp_path / "page.html"
    said(capsys, "report", str(tmp_path / f"{layout}.edge"), "-o", str(page))
    (legend,) = re.findall(r'class="legend">(.*?)</p>', page.read_text("utf-8"))
    shown = re.findall(r'style="background:([^"]+)" aria-hidden="true"></span>([^<]+)', legend)
    assert {"ground (left as it is)", "red"} <= {label for _, label in shown}
    assert ("#800000", "red") in shown
    assert len({colour for colour, _ in shown}) == len(shown)


def test_the_page_and_run_refuse_a_class_that_no_mask_holds() -> None:
    with pytest.raises(BadInput, match="is answered with classes 0 to 300; a mask holds 0 to 255"):
        mask_of("a.png", np.array([[0, 300]]), None, (), Seen())  # type: ignore[arg-type]
