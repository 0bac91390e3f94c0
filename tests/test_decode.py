"""`edgecnn decode`: a raw head in an ONNX file becomes boxes in the graph, the same as greedy suppression finds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgecnn import api, decoding
from edgecnn.cli import main
from exporters.artifact import Identity, read_identity, read_stages, write_identity
from exporters.graph import get_meta, opset, set_meta
from exporters.join import joined
from exporters.load import load_model
from raw_heads import SIDE, brute_force, chosen_by_hand, in_two, network, of_chosen, of_open_size
from runtimes.base import Array, BadInput, CheckFailed
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import open_session
from small_nets import conv_net, save

UNIT = Preprocess(size=(64, 64), channels=3)
NAMES = ("cat", "dog", "cow")


def pictures(count: int = 2) -> Array:
    return np.random.default_rng(3).random((count, 3, 64, 64), np.float32)


LIMITS: dict[str, Any] = {"score": 0.3, "iou": 0.4, "most": 7}
TAILS: dict[object, Any] = {}


@pytest.fixture(autouse=True)
def exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same decoding is traced and exported once for all tests here: that is what takes long."""
    made = decoding._tail

    def tail(given: Any, seed: int) -> Any:
        key = (given.head, given.layout.classes, given.upright[0].shape, opset(given.model) > 18, given.open_places)
        TAILS[key] = TAILS.get(key) or made(given, seed)
        return TAILS[key]

    monkeypatch.setattr(decoding, "_tail", tail)


def agree(given: onnx.ModelProto, made: onnx.ModelProto, head: str, turned: bool) -> int:
    """How many boxes `made` finds in pictures, which are those of `brute_force` on what `given` answers."""
    session, raw = open_session(made), open_session(given)
    images = pictures(1 if session.inputs[0].shape[0] == 1 else 3)
    (answer,) = raw({raw.inputs[0].name: images}).values()
    answer = answer.transpose(0, 2, 1) if (head == "yolov8") == turned else answer
    found = session({session.inputs[0].name: images})
    for i, (boxes, scores, labels) in enumerate(brute_force(answer, head, **LIMITS)):
        here = found["image"] == i
        assert found["labels"][here].tolist() == labels.tolist()
        np.testing.assert_allclose(found["scores"][here], scores, atol=1e-5)
        np.testing.assert_allclose(found["boxes"][here], boxes.clip(0, [SIDE] * 4), atol=1e-3)
    return len(found["image"])


@pytest.mark.parametrize(
    ("head", "turned", "version", "batch"),
    [("yolov8", False, 17, "N"), ("yolov8", True, 12, 1), ("yolov5", False, 20, 1), ("yolov5", True, 15, "N")],
)
def test_the_joined_graph_finds_what_brute_force_finds(
    head: str, turned: bool, version: int, batch: str | int, tmp_path: Path
) -> None:
    given = network(head, opset=version, batch=batch, turned=turned)
    report = api.decode(
        save(given, tmp_path / "raw.onnx"), tmp_path / "det.onnx", head=head, score=0.3, iou=0.4, most=7
    )
    made = load_model(tmp_path / "det.onnx")
    assert agree(given, made, head, turned) > 6
    assert (report.classes, report.transposed) == (3, (head == "yolov8") == turned)
    assert report.boxes > 0
    assert report.max_abs < 1e-3
    assert report.opset == opset(made) == max(version, 15)
    assert [value.name for value in made.graph.output] == ["boxes", "scores", "labels", "image"]


def test_boxes_that_the_network_chose(tmp_path: Path) -> None:
    given = of_chosen(seed=1)
    path, out = save(given, tmp_path / "raw.onnx"), tmp_path / "det.onnx"
    report = api.decode(path, out, head="yolo26", preprocess="yolo", score=LIMITS["score"], most=LIMITS["most"])
    assert (report.head.kind, report.classes, report.raw) == ("yolov10", 0, (1, 64, 6))
    assert report.boxes > 6
    assert report.verdict.startswith(
        f"{out}: decodes yolov10, scores above 0.3, at most 7 boxes, of 1x64x6; as PyTorch"
    )
    images = pictures(3)
    found = open_session(load_model(out))({"images": images})
    wanted = chosen_by_hand(open_session(given)({"images": images})["output0"], LIMITS["score"], LIMITS["most"])
    for i, (boxes, scores, labels) in enumerate(wanted):
        here = found["image"] == i
        assert len(boxes) == 7
        assert found["labels"][here].tolist() == labels.tolist()
        np.testing.assert_allclose(found["scores"][here], scores, atol=1e-6)
        np.testing.assert_allclose(found["boxes"][here], boxes.clip(0, [SIDE] * 4), atol=1e-4)
    assert {0, 1, 2} == {*found["labels"]}


def test_models_of_open_size_are_decoded_at_any(tmp_path: Path) -> None:
    """Wide and high pictures, whose boxes are cut at their own edges."""
    path, out = save(of_open_size(), tmp_path / "raw.onnx"), tmp_path / "det.onnx"
    report = api.decode(path, out, input_shape="3,64,96", **LIMITS)
    assert (report.images, report.warnings[:1]) == (4, ())  # three pictures of that size, and a larger one
    raw, made = open_session(load_model(path)), open_session(load_model(out))
    cut = 0
    for height, width in ((64, 96), (96, 64), (40, 168)):
        images = np.random.default_rng(height).random((2, 3, height, width), np.float32)
        found = made({"images": images})
        edges = np.array([width, height, width, height], np.float32)
        wanted = brute_force(raw({"images": images})["output0"], "yolov8", **LIMITS)
        for i, (boxes, scores, labels) in enumerate(wanted):
            here = found["image"] == i
            assert found["labels"][here].tolist() == labels.tolist()
            np.testing.assert_allclose(found["scores"][here], scores, atol=1e-5)
            np.testing.assert_allclose(found["boxes"][here], boxes.clip(0, edges), atol=1e-3)
            cut += int((boxes != boxes.clip(0, edges)).any(1).sum())
    assert cut > 3


def test_a_size_that_is_open_in_name_only_is_told(tmp_path: Path) -> None:
    model = of_open_size()
    shape = next(node for node in model.graph.node if "shape" in node.output)
    shape.attribute[0].ints[2] = 96  # 64x96 pixels
    report = api.decode(save(model, tmp_path / "raw.onnx"), tmp_path / "det.onnx", input_shape="3,64,96", **LIMITS)
    assert "leaves its size open and does not run at 96x128; proven at 64x96 alone" in report.warnings[0]


@pytest.mark.parametrize(("boxes_last", "scores_last"), [(False, False), (True, True), (True, False)])
def test_boxes_and_scores_in_two_outputs(boxes_last: bool, scores_last: bool, tmp_path: Path) -> None:
    path = save(in_two(network(), boxes_last, scores_last, scores_first=boxes_last), tmp_path / "raw.onnx")
    report = api.decode(path, tmp_path / "det.onnx", **LIMITS)
    made = load_model(tmp_path / "det.onnx")
    assert agree(network(), made, "yolov8", False) > 6
    assert report.raw == (1, 7, 64)
    assert [value.name for value in made.graph.output] == ["boxes", "scores", "labels", "image"]


def test_metadata_identity_and_stages_stay(tmp_path: Path) -> None:
    given = network()
    set_meta(given, {"stride": "32"})
    write_identity(given, Identity("street", "other", NAMES, UNIT))
    report = api.decode(save(given, tmp_path / "raw.onnx"), tmp_path / "det.onnx", **LIMITS)
    made = load_model(tmp_path / "det.onnx")
    assert read_identity(made) == Identity("street", "detection", NAMES, UNIT)
    assert get_meta(made)["stride"] == "32"
    assert [stage.name for stage in read_stages(made)] == ["decode"]
    assert report.warnings == ()
    assert {n.name for n in given.graph.node} <= {n.name for n in made.graph.node}


def test_names_of_yolos_exporters_and_what_the_user_says(tmp_path: Path) -> None:
    given = network()
    set_meta(given, {"names": "{0: 'cat', 1: 'dog', 2: 'cow'}"})
    path = save(given, tmp_path / "raw.onnx")
    report = api.decode(path, tmp_path / "det.onnx", **LIMITS)
    known = read_identity(load_model(tmp_path / "det.onnx"))
    assert known is not None
    assert known.labels == NAMES
    assert "(YOLO's is `yolo`, x/255 in a letterbox)" in report.warnings[0]
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    told = api.decode(path, tmp_path / "told.onnx", labels=tmp_path / "names.txt", preprocess="unit", **LIMITS)
    assert read_identity(load_model(tmp_path / "told.onnx")) == Identity("raw", "detection", ("a", "b", "c"), UNIT)
    assert told.warnings == ()
    (tmp_path / "two.txt").write_text("a\nb\n")
    with pytest.raises(BadInput, match=r"answers \(1, 7, 64\), and a yolov8 head is \(N, 4 \+ 2, places\)"):
        api.decode(path, tmp_path / "no.onnx", labels=tmp_path / "two.txt")
    assert not (tmp_path / "no.onnx").exists()


def test_yolos_own_exporter_says_enough(tmp_path: Path) -> None:
    given = network()
    set_meta(given, {"author": "Ultralytics", "task": "detect", "names": "{0: 'cat', 1: 'dog', 2: 'cow'}"})
    report = api.decode(save(given, tmp_path / "raw.onnx"), tmp_path / "det.onnx", **LIMITS)
    boxed = Preprocess((64, 64), letterbox=114, antialias=False)
    assert read_identity(load_model(tmp_path / "det.onnx")) == Identity("raw", "detection", NAMES, boxed)
    assert report.warnings == ()
    told = api.decode(tmp_path / "raw.onnx", tmp_path / "told.onnx", preprocess="signed", **LIMITS)
    known = read_identity(load_model(tmp_path / "told.onnx"))
    assert known is not None
    assert known.preprocess == Preprocess((64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert told.warnings == ()


def test_a_name_that_the_answers_need_gives_way(tmp_path: Path) -> None:
    given = network(fed="image", raw="boxes")
    report = api.decode(save(given, tmp_path / "raw.onnx"), tmp_path / "det.onnx", preprocess="unit", **LIMITS)
    made = load_model(tmp_path / "det.onnx")
    assert made.graph.input[0].name == "image_in"
    said = f"{tmp_path / 'raw.onnx'}: its input image is called image_in now, for an answer has that name"
    assert report.warnings == (said,)
    assert agree(given, made, "yolov8", False) > 6


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"head": "yolov3"}, "unknown head"),
        ({"head": "yolov5"}, {"head": "yolov8", "labels": True}, r"answers \(1, 64, 8\), and a yolov8 head is"),
        ({"last": "Sub"}, {}, "scores reach from -0"),
    ],
)
def test_a_wrong_head_is_one_line(
    change: dict[str, str], options: dict[str, object], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network(**change)  # type: ignore[arg-type]
    if change.get("last") == "Sub":  # as logits are
        model = network()
        shift = next(t for t in model.graph.initializer if t.name == "start")
        values = onnx.numpy_helper.to_array(shift).copy()
        values[:, 4:] -= 0.5
        shift.CopyFrom(onnx.numpy_helper.from_array(values, "start"))
    path = save(model, tmp_path / "raw.onnx")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    words_given = ["--head", str(options.get("head", "yolov8"))]
    words_given += ["--labels", str(tmp_path / "names.txt")] if "labels" in options else []
    assert main(["decode", str(path), "-o", str(tmp_path / "det.onnx"), *words_given]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert re.search(words, said)
    assert not (tmp_path / "det.onnx").exists()


def test_what_is_no_detector(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"answers \(1, 10\), and a yolov8 head is"):
        api.decode(save(conv_net(), tmp_path / "net.onnx"), tmp_path / "det.onnx")
    two = network()
    two.graph.output.append(onnx.helper.make_tensor_value_info("seen", onnx.TensorProto.FLOAT, ["N", 7, 8, 8]))
    with pytest.raises(BadInput, match=r"answers output0 \(1, 7, 64\), seen \(1, 7, 8, 8\), not boxes \(N"):
        api.decode(save(two, tmp_path / "two.onnx"), tmp_path / "det.onnx")
    with pytest.raises(BadInput, match=r"answers with 2 tensors \(output0, seen\), a raw head is one, or"):
        api.decode(tmp_path / "two.onnx", tmp_path / "det.onnx", head="yolov5")
    three = network()
    del three.graph.output[:]
    for name in ("seen", "s1", "s2"):
        if name != "seen":
            three.graph.node.append(onnx.helper.make_node("Identity", ["seen"], [name]))
        three.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 7, 8, 8]))
    with pytest.raises(BadInput, match=r"answers with 3 tensors .*these are feature maps: export it with its boxes"):
        api.decode(save(three, tmp_path / "three.onnx"), tmp_path / "det.onnx")


def test_another_graph_is_not_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A join that loses something is found by the pictures."""

    def spoiled(*given: object) -> onnx.ModelProto:
        made = joined(*given)  # type: ignore[arg-type]
        gain = next(t for t in made.graph.initializer if t.name == "gain")
        values = onnx.numpy_helper.to_array(gain).copy()
        values[0, 2] *= 1.01
        gain.CopyFrom(onnx.numpy_helper.from_array(values, "gain"))
        return made

    monkeypatch.setattr("edgecnn.decoding.joined", spoiled)
    with pytest.raises(CheckFailed, match="answers something else than PyTorch, nothing was written"):
        api.decode(save(network(), tmp_path / "raw.onnx"), tmp_path / "det.onnx", **LIMITS)
    assert not (tmp_path / "det.onnx").exists()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(network(), tmp_path / "raw.onnx")
    arguments = ["decode", str(path), "-o", str(tmp_path / "det.onnx"), "--preprocess", "unit", "--score", "0.3"]
    arguments += ["--iou", "0.4", "--most", "7"]
    assert main(arguments) == 0
    said = "decodes yolov8, scores above 0.3, IoU 0.4, at most 7 boxes, of 1x7x64: 3 classes"
    assert said in capsys.readouterr().out
    assert main([*arguments, "--force", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["head"], found["score"], found["classes"], found["raw"]) == ("yolov8", 0.3, 3, [1, 7, 64])
    assert main(["decode", str(path), "-o", str(path), "--force"]) == 2
