"""How detectors number their classes: found out from the labels answered, said, and never decided by a score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from edgecnn import api
from edgecnn.choosing.model_identity import numbered
from edgecnn.cli import main
from edgecnn.data.load import load_data
from edgecnn.data.samples import Samples, Target
from edgecnn.evaluation.average_precision import Found
from edgecnn.evaluation.class_numbers import Numbers, numbers_of
from edgecnn.networks.spec import unit_range
from exporters.load import load_model
from runtimes.session import open_session

WEIGHTS = Path(__file__).parent / "fixtures" / "ssd_tiny_shapes.safetensors"
IDS = (3, 7, 9)
BOX = np.array([[4, 4, 20, 20]], np.float32)


def samples(names: tuple[str, ...], ids: tuple[int, ...] = (), read_as: str = "") -> Samples:
    found = Samples("data", ("a",), lambda i: np.zeros((1, 8, 8), np.float32), class_names=names)
    return replace(found, targets=[Target.of(BOX, np.array([0]))], category_ids=ids, read_as=read_as)


def answering(*labels: int) -> list[Found]:
    count = len(labels)
    return [Found(np.repeat(BOX, count, 0), np.linspace(0.9, 0.5, count), np.array(labels, np.int64))]


def by_class(found: list[Found]) -> float:
    """A stand-in for mAP: the share of answers of class 0."""
    labels = np.concatenate([f.labels for f in found])
    return float((labels == 0).mean()) if len(labels) else 0.0


def read(made: Samples, *labels: int) -> Numbers:
    return numbers_of(answering(*labels), made, by_class)  # type: ignore[arg-type]


COCO = tuple("abc"), IDS


@pytest.mark.parametrize(
    ("made", "labels", "taken", "said"),
    [
        (samples(*COCO), (0, 1, 2), "index", ""),  # only an index is 0
        (samples(*COCO), (3, 7), "ids", "as the category ids of the data"),  # no index of 3 is 7
        (samples(*COCO), (3,), "ids", "as the category ids of the data"),  # also 1 to 3: the data's own come first
        (samples(*COCO), (2,), "index", ""),  # or 1 to 3, which is worth no more
        (samples(*COCO), (1, 2, 3), "background", "as 1 to 3 after the background"),  # 1 is no id, 3 no index
        (samples(*COCO), (0, 3), "index", "those beyond are of no class"),  # fits nothing
        (samples(tuple("abc")), (1, 3), "background", "as 1 to 3 after the background"),
        (samples(("__background__", "a", "b")), (1, 3), "index", "those beyond are of no class"),
        (samples(("0", "1", "2")), (2, 3), "index", ""),  # how many there are, nobody said
        (samples(()), (5,), "index", ""),
        (samples(*COCO, "background"), (1, 2), "background", "as the other model's"),
        (samples(*COCO, "background"), (0, 2), "index", ""),  # cannot be held to it
        (samples(*COCO), (), "index", ""),
    ],
)
def test_the_first_possible_reading_counts(made: Samples, labels: tuple[int, ...], taken: str, said: str) -> None:
    numbers = read(made, *labels)
    assert numbers.taken.name == taken
    assert said in numbers.why
    assert bool(numbers.why) == bool(said)


def test_a_reading_that_is_worth_more_is_said_and_not_taken() -> None:
    numbers = read(samples(tuple("ab")), 1)
    assert numbers.taken.name == "index"
    assert "as indices (0 to 1), mAP 0.00%; as 1 to 2 after the background it is 100.00%" in numbers.why
    assert numbers.worth == {"index": 0.0, "background": 1.0}
    assert "--labels FILE" in numbers.why


@pytest.mark.parametrize(
    ("made", "labels", "valued"),
    [
        (samples(*COCO), (2,), {"index", "background"}),  # 2 is no id
        (samples(*COCO), (3,), {"index", "ids", "background"}),  # shown beside what is taken, though 3 is no index
        (samples(*COCO), (0, 3), {"index", "ids", "background"}),  # fits nothing, so that each could be meant
        (samples(tuple("abc")), (0, 3), {"index", "background"}),  # the data has no ids
    ],
)
def test_map_is_told_by_each_reading_that_could_be_meant(
    made: Samples, labels: tuple[int, ...], valued: set[str]
) -> None:
    assert set(read(made, *labels).worth) == valued


def test_a_label_that_stands_for_no_class_is_no_answer() -> None:
    (found,) = read(samples(*COCO), 3, 9).taken.of(answering(3, 5, 9))
    assert found.labels.tolist() == [0, 2]
    assert found.scores.tolist() == [0.9, 0.5]
    assert found.boxes.shape == (2, 4)


def test_ids_go_with_their_names() -> None:
    """COCO's names in another order, with names that the data lacks."""
    moved = samples(*COCO).with_labels(("c", "x", "a", "b"))
    assert moved.category_ids == (9, None, 3, 7)
    assert [t.labels.tolist() for t in moved.targets or ()] == [[2]]
    assert read(moved, 7, 9).taken.of(answering(7, 9))[0].labels.tolist() == [3, 0]


def test_boxes_that_are_only_numbered_take_the_names_of_the_model() -> None:
    assert samples(("0", "1")).with_labels(("cat", "dog", "cow")).class_names == ("cat", "dog", "cow")


# ------------------------------------------------------------------------------------------------- a real detector
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of `shapes` as COCO's folder, whose categories have the ids 3, 7 and 9."""
    root = tmp_path_factory.mktemp("coco")
    drawn = load_data("shapes:24", unit_range(64, 64), task="detection")
    assert drawn.targets is not None
    (root / "images").mkdir()
    entries: list[dict[str, object]] = []
    for i in range(len(drawn)):
        pixels = np.uint8((drawn[i].transpose(1, 2, 0) * 255).round())
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        for (x1, y1, x2, y2), label in zip(drawn.targets[i].boxes.tolist(), drawn.targets[i].labels, strict=True):
            entries.append({"id": len(entries) + 1, "image_id": i, "category_id": IDS[label],
                            "bbox": [x1, y1, x2 - x1, y2 - y1]})  # fmt: skip
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(len(drawn))]
    categories = [{"id": k, "name": n} for k, n in zip(IDS, drawn.class_names, strict=True)]
    document = {"images": images, "categories": categories, "annotations": entries}
    (root / "annotations.json").write_text(json.dumps(document))
    return root


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ssd") / "index.onnx"
    api.export("ssd_tiny", path, weights=WEIGHTS)
    return path


def numbering(plain: Path, numbers: tuple[int, ...], named: bool = False) -> Path:
    """The detector in `plain`, which answers numbers[k] in place of class k, as files from elsewhere do."""
    path = plain.with_name(f"{'_'.join(map(str, numbers))}.onnx")
    model = load_model(plain)
    graph = model.graph
    for node in graph.node:
        for ends in (node.output, node.input):
            for i, name in enumerate(ends):
                ends[i] = "index" if name == "labels" else name
    graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), "numbers"))
    graph.node.append(helper.make_node("Gather", ["numbers", "index"], ["labels"]))
    del model.metadata_props[:]
    onnx.save(model, path)
    return path


def report_of(model: Path, folder: Path, *more: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict, str]:  # type: ignore[type-arg]
    assert main(["evaluate", str(model), *more, "--data", str(folder), "--preprocess", "unit", "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_each_numbering_scores_the_same(folder: Path, plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, err = report_of(plain, folder, capsys=capsys)
    (wanted,) = index["models"]
    assert wanted["value"] > 0.3
    assert wanted["class_numbers"]["read_as"] == "index"
    assert "labels" not in err
    for numbers, name in ((IDS, "ids"), ((1, 2, 3), "background")):
        found, err = report_of(numbering(plain, numbers), folder, capsys=capsys)
        (row,) = found["models"]
        assert row["value"] == pytest.approx(wanted["value"], abs=1e-9), name
        assert row["class_numbers"]["read_as"] == name
        assert row["class_numbers"]["map_by_reading"]["index"] < 0.2
        (line,) = (line for line in found["warnings"] if "labels" in line)
        assert line in err
        assert str(folder) in line


def test_names_in_the_models_order_settle_it(
    folder: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("__background__\ncircle\nsquare\ntriangle\n")
    found, _ = report_of(numbering(plain, (1, 2, 3)), folder, "--labels", str(names), capsys=capsys)
    (row,) = found["models"]
    assert row["value"] > 0.3
    assert row["class_numbers"] == {"read_as": "index", "why": "", "map_by_reading": {}}


def test_two_models_are_read_alike_where_they_can_be(
    folder: Path, plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second sees one class alone, whose number could be an index."""
    first, second = numbering(plain, (1, 2, 3)), numbering(plain, (2, 2, 2))
    found, _ = report_of(first, folder, str(second), capsys=capsys)
    assert [row["class_numbers"]["read_as"] for row in found["models"]] == ["background", "background"]
    assert any("as the other model's" in line for line in found["warnings"])


def test_the_judge_of_quantize_reads_as_evaluate_does(folder: Path, plain: Path) -> None:
    path = numbering(plain, IDS)
    data = load_data(folder, unit_range(64, 64), task="detection")
    assert data.category_ids == IDS
    judged, line = numbered("net", load_model(path), data, open_session(load_model(path)).inputs[0].name)
    assert judged.read_as == "ids"
    assert line.startswith("net: answers labels 3 to 9")
