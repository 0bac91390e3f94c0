"""Which images calibrate and which judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from edgecnn.choosing.model_identity import judged_as
from edgecnn.data import material
from edgecnn.data.load import load_data
from edgecnn.data.material import Material, material_for, with_model_labels
from edgecnn.data.parts import part
from edgecnn.data.samples import Samples
from edgecnn.runners import graph_outputs
from exporters.artifact import Identity
from graphs import parse
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import open_session

RNG = np.random.default_rng(7)
GREY = Identity("net", labels=tuple("0123456789"), preprocess=Preprocess(size=(8, 8), channels=1))


def classifier(classes: int = 10) -> onnx.ModelProto:
    text = f"""g (float[N,1,8,8] x) => (float[N,{classes}] y) {{
        a = Conv(x, w)
        f = Flatten(a)
        y = Gemm <transB = 1> (f, v)
    }}"""
    return parse(text, w=(2, 1, 3, 3), v=(classes, 72))


def test_digits_calibrate_on_the_train_part_and_are_judged_on_the_test_part() -> None:
    material = material_for(classifier(), GREY, "digits", "digits", 64, 0)
    assert len(material.calibration) == 64
    assert material.judged.labels is not None
    assert not set(material.calibration.ids) & set(material.judged.ids)
    assert material.input_name == "x"
    assert material.calibration_feeds[0]["x"].shape == (1, 1, 8, 8)


def test_without_data_images_that_did_not_calibrate_judge_unlabelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = material_for(classifier(), GREY, "digits", None, 16, 0)
    assert len(alone.judged) == 299  # at most 1 % changed, at 95 %, where none is
    assert len(material_for(classifier(), GREY, "digits", None, 320, 0).judged) == 320
    assert alone.judged.labels is None
    assert set(alone.judged.ids) < set(material_for(classifier(), GREY, "digits", "digits", 16, 0).judged.ids)
    np.save(tmp_path / "x.npy", RNG.standard_normal((40, 1, 8, 8), np.float32))
    array = str(tmp_path / "x.npy")
    for limit, left in ((16, 24), (30, 10)):
        cut = material_for(classifier(), GREY, array, None, limit, 3)
        assert cut.calibration.ids == load_data(array, GREY.preprocess, limit=limit, seed=3).ids  # type: ignore[arg-type]
        assert (len(set(cut.calibration.ids)), len(set(cut.judged.ids))) == (limit, left)
        assert not set(cut.calibration.ids) & set(cut.judged.ids)
        assert cut.judged_on.startswith(f"{left} images without labels that did not calibrate: ")
    monkeypatch.setattr(material, "JUDGE_SECONDS", 0.0)
    slow = material_for(classifier(), GREY, array, None, 16, 3)
    assert len(slow.judged) == 16
    for limit in (40, 64):
        assert material_for(classifier(), GREY, array, None, limit, 3).judged.ids == tuple(
            f"{array}[{i}]" for i in range(40)
        )


@pytest.mark.parametrize(
    ("spec", "other", "expected"),
    [
        ("photos", None, "all"),
        ("photos", "photos", "train"),
        ("digits", None, "train"),
        ("random:4", "random:4", "all"),
    ],
)
def test_a_set_is_cut_only_if_it_must_serve_twice(spec: str, other: str | None, expected: str) -> None:
    assert part("train", spec, other) == expected


def test_a_folder_with_parts_uses_them(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert part("train", str(tmp_path), None) == "train"


def labelled(names: tuple[str, ...]) -> Samples:
    labels = np.arange(len(names))
    return Samples("made", names, lambda i: np.zeros((1, 8, 8), np.float32), labels, names)


def test_folder_names_are_looked_up_among_the_models_labels() -> None:
    samples = with_model_labels(labelled(("7", "3")), GREY.labels, open_session(classifier()))
    assert samples.labels is not None
    assert samples.labels.tolist() == [7, 3]


def test_a_class_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(BadInput, match="zebra"):
        with_model_labels(labelled(("7", "zebra")), GREY.labels, open_session(classifier()))


def test_more_classes_than_outputs_is_bad_input() -> None:
    with pytest.raises(
        BadInput,
        match="made: has 4 classes, the model 3, which it does not name; give its names in their order: --labels",
    ):
        with_model_labels(labelled(tuple("abcd")), (), open_session(classifier(3)))


def test_whole_numbers_need_not_show_every_class() -> None:
    """A thousand classes, and 300 images drawn of them; the model names none, or all."""
    labels = np.random.default_rng(3).integers(0, 990, 300)
    for names in ((), tuple(f"class {i}" for i in range(1000))):
        data = RNG.standard_normal((300, 1, 8, 8)).astype(np.float32), labels
        identity = replace(GREY, labels=names)
        judged = material_for(classifier(1000), identity, "digits", data, 8, 0).judged
        assert judged.labels is not None
        assert judged.labels.tolist() == labels.tolist()


@pytest.mark.parametrize(("labels", "refused"), [((1, 10), True), ((2, 10), True), ((0, 10), False), ((1, 9), None)])
@pytest.mark.parametrize("names", [(), GREY.labels, tuple("abcdefghij")], ids=["none", "numbers", "letters"])
def test_labels_from_one_are_named(labels: tuple[int, int], refused: bool | None, names: tuple[str, ...]) -> None:
    """Ten classes: the first and the last are shown. None: they fit."""
    y = np.linspace(*labels, 20).astype(int)
    data = load_data((RNG.standard_normal((20, 1, 8, 8)).astype(np.float32), y), (1, 8, 8))
    session = open_session(classifier())
    if refused is None:
        assert with_model_labels(data, names, session).labels.tolist() == y.tolist()  # type: ignore[union-attr]
        return
    line = rf"data array: labels go from {labels[0]} to 10, the model's 10 classes from 0 to 9; .* give y - 1$"
    with pytest.raises(BadInput, match=line if refused else "11 classes, the model 10|10: unknown class|0: unknown"):
        with_model_labels(data, names, session)


def test_folders_of_classes_must_be_as_many_as_the_answers(tmp_path: Path) -> None:
    """Folders 0 to 8 are counted by their order, whatever their names: which of ten is not there nobody knows."""
    for i in range(9):
        (tmp_path / str(i)).mkdir()
        Image.fromarray(RNG.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / str(i) / "a.png")
    folder = load_data(tmp_path, GREY.preprocess)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="has 9 classes, the model 10, which it does not name"):
        with_model_labels(folder, (), open_session(classifier()))


def test_a_model_without_classes_is_judged_without_labels() -> None:
    model = parse("g (float[N,1,8,8] x) => (float[N,2,6,6] y) { y = Conv(x, w) }", w=(2, 1, 3, 3))
    material = Material("x", (1, 8, 8), labelled(("a", "b")), labelled(("a", "b")))
    kept = with_model_labels(material.judged, (), open_session(model))
    assert kept.class_names == ("a", "b")
    for task, why in (
        ("other", "they are classes, and answers of shape (N, 2, 6, 6) are of no known task"),
        ("segmentation", "they are classes, and the task is segmentation"),
        ("classification", "they are classes, and answers of shape (N, 2, 6, 6) are no scores of classes"),
    ):
        found = judged_as(task, material, graph_outputs(model))
        assert (found.judged.labels, found.unused) == (None, why)


def test_a_model_that_takes_no_image_is_fed_with_arrays(tmp_path: Path) -> None:
    model = parse("g (float[N,2,16] x) => (float[N,4,14] y) { y = Conv(x, w) }", w=(4, 2, 3))
    signals = np.random.default_rng(0).normal(size=(6, 2, 16)).astype(np.float32)
    np.save(tmp_path / "signals.npy", signals)
    material = material_for(model, None, str(tmp_path / "signals.npy"), None, 4, 0)
    assert len(material.calibration) == 4
    np.testing.assert_array_equal(material.calibration_feeds[0]["x"][0], material.calibration[0])
    assert material_for(model, None, "random:3", None, 8, 0).calibration[0].shape == (2, 16)
    with pytest.raises(BadInput, match=r"this network takes \[N, 2, 16\], no pictures; give float arrays"):
        material_for(model, None, "digits", None, 8, 0)
    np.save(tmp_path / "short.npy", signals[:, :, :9])
    with pytest.raises(BadInput, match=r"float32 \[6, 2, 9\]; this network needs float \[N, 2, 16\]"):
        material_for(model, None, str(tmp_path / "short.npy"), None, 8, 0)


@pytest.mark.parametrize("text", ["float[N,A] x", "double[N,5] x"])
def test_a_model_that_cannot_be_fed_is_bad_input(text: str) -> None:
    kind = text.split("[", maxsplit=1)[0]
    model = parse(f"g ({text}) => ({kind}[N,5] y) {{ y = Neg(x) }}")
    with pytest.raises(BadInput, match="calibration needs float32 numbers or uint8 pictures whose size is fixed"):
        material_for(model, replace(GREY, preprocess=None), "random", None, 8, 0)


def test_a_model_of_uint8_pictures_gets_the_pixels_as_they_are() -> None:
    text = "g (uint8[N,8,8,3] x) => (float[N,8,8,3] y) { y = Cast <to = 1> (x) }"
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    material = material_for(parse(text), None, pictures, None, 8, 0)
    np.testing.assert_array_equal(material.calibration.stack(), pictures)
    assert not material.guessed
    opened = parse(text.replace("N,8,8,3", "N,H,W,3"))
    with pytest.raises(BadInput, match=r"net.onnx: takes x uint8 \['N', 'H', 'W', 3\]; .* give --input-shape"):
        material_for(opened, None, pictures, None, 8, 0, name="net.onnx")
    material = material_for(opened, None, pictures, None, 8, 0, "8,8,3")
    np.testing.assert_array_equal(material.calibration.stack(), pictures)


@pytest.mark.parametrize(
    ("kind", "way"),
    [("float16[N,3,8,8]", "export it in float32"), ("uint8[N,16]", "no pictures of 1 or 3 channels: cut the cast")],
)
def test_what_cannot_be_quantized_is_named_by_its_file(kind: str, way: str) -> None:
    model = parse(f"g ({kind} x) => ({kind} y) {{ y = Identity(x) }}")
    with pytest.raises(BadInput, match=rf"net.onnx: takes x .*{way}"):
        material_for(model, None, "random", None, 8, 0, name="net.onnx")


def test_a_batch_of_several_is_refused() -> None:
    four = parse("g (float[4,2,16] x) => (float[4,4,14] y) { y = Conv(x, w) }", w=(4, 2, 3))
    with pytest.raises(BadInput, match=r"takes 4 images at a time, .*export it with a batch of 1, or an open one"):
        material_for(four, None, "random", None, 8, 0, "4,2,16")


def open_sized() -> onnx.ModelProto:
    return parse("g (float[N,3,H,W] x) => (float[N,4,A,B] y) { y = Conv(x, w) }", w=(4, 3, 3, 3))


def test_an_open_size_is_closed_by_the_user() -> None:
    with pytest.raises(BadInput, match="give --input-shape where the size is open"):
        material_for(open_sized(), None, "digits", None, 4, 0)
    for shape in ("1,3,20,24", "3,20,24", "x:[1,3,20,24]"):
        material = material_for(open_sized(), None, "digits", None, 4, 0, shape)
        assert material.calibration_feeds[0]["x"].shape == (1, 3, 20, 24)
        assert material.sizes == {"x": (1, 3, 20, 24)}


@pytest.mark.parametrize("shape", ["1,1,20,24", "20,24", "z:1,3,20,24", "1,3,20,24,2"])
def test_a_shape_that_is_not_the_models_is_bad_input(shape: str) -> None:
    with pytest.raises(BadInput, match=r"the model's input x is \[N, 3, H, W\]; give sizes that fit"):
        material_for(open_sized(), None, "digits", None, 4, 0, shape)


def test_it_says_what_the_verdict_stands_on() -> None:
    labelled = material_for(classifier(), GREY, "digits", "digits", 16, 0)
    assert labelled.judged_on == f"{len(labelled.judged)} labelled images of digits"
    alone = material_for(classifier(), GREY, "random:4", None, 16, 0)
    assert alone.judged_on == "the same images without labels: answers are compared with the float graph's"


def test_the_refusal_of_a_batch_names_the_way_out() -> None:
    command = r"`edgecnn simplify IN -o OUT --input-shape %s` changes it where images do not mix; or export it with"
    four = parse("g (float[4,2,16] x) => (float[4,4,14] y) { y = Conv(x, w) }", w=(4, 2, 3))
    with pytest.raises(BadInput, match=command % "1,2,16"):
        material_for(four, None, "random", None, 8, 0, name="net.onnx")
    two = parse("g (float[4,2] x, float[4,2] z) => (float[4,2] y) { y = Add(x, z) }")
    with pytest.raises(BadInput, match=command % "x:1,2 --input-shape z:1,2"):
        material_for(two, None, "random", None, 8, 0, name="net.onnx")
    open_size = parse("g (float[4,2,L] x) => (float[4,4,M] y) { y = Conv(x, w) }", w=(4, 2, 3))
    with pytest.raises(BadInput, match="give it one: export it with a batch of 1, or an open one"):
        material_for(open_size, None, "random", None, 8, 0, name="net.onnx")
