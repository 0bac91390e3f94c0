"""labels.csv: pictures with a row of numbers each; what is broken in it is one line with its number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from data_folders import picture
from edgecnn import api
from edgecnn.cli import main
from edgecnn.data.load import load_data
from edgecnn.data.table import table
from edgecnn.networks.spec import unit_range
from pass_examples import build, draw
from runtimes.base import Array, BadInput

READY = unit_range(8, 8)


def folder(root: Path, text: str, names: tuple[str, ...] = ("a.png", "b.png", "c.png"), below: str = "images") -> Path:
    for i, name in enumerate(names):
        picture(root / below / name, 8, 8, seed=i)
    (root / "labels.csv").write_bytes(text.encode())
    return root


def test_rows_become_truth_and_columns_names(tmp_path: Path) -> None:
    """A byte order mark, quotes, other ends of lines, empty lines, the order of the rows, pictures without a row."""
    text = '\ufefffile,"hat, red",smile\r\nb.png,1,0\r\n\r\n"a.png", 0 ,1.0\r\n'
    found = load_data(folder(tmp_path, text), READY, task="multi-label")
    assert found.class_names == ("hat, red", "smile")
    assert found.truth is not None
    assert found.truth.tolist() == [[1, 0], [0, 1]]
    assert [Path(name).name for name in found.ids] == ["b.png", "a.png"]
    assert np.array_equal(found[1], load_data(tmp_path / "images" / "a.png", READY)[0])
    assert found.labels is None


def test_pictures_may_lie_beside_it_or_deeper(tmp_path: Path) -> None:
    found = load_data(folder(tmp_path, "file,age\nin/a.png,31.5\n", ("in/a.png",), "."), READY, task="regression")
    assert found.truth is not None
    assert found.truth.tolist() == [[31.5]]


def test_train_and_val_are_parts_and_the_file_itself_is_data(tmp_path: Path) -> None:
    folder(tmp_path / "train", "file,age\na.png,1\nb.png,2\n")
    folder(tmp_path / "val", "file,age\nc.png,3\n")
    for split, ages in (("train", [1, 2]), ("test", [3]), ("all", [1, 2, 3])):
        found = load_data(tmp_path, READY, split=split, task="regression")
        assert found.truth is not None
        assert found.truth[:, 0].tolist() == ages
        assert len(found) == len(ages)
    alone = load_data(tmp_path / "val" / "labels.csv", READY, task="regression")
    assert alone.truth is not None
    assert alone.truth.tolist() == [[3]]
    (tmp_path / "val" / "labels.csv").write_text("file,height\nc.png,3\n")
    with pytest.raises(BadInput, match="its two parts name different classes"):
        load_data(tmp_path, READY, task="regression")


def test_other_tasks_leave_it_alone(tmp_path: Path) -> None:
    """A folder of classes may hold a labels.csv that is none of ours."""
    folder(tmp_path, "id,breed\n7,poodle\n", ("cat/a.png", "dog/b.png"), ".")
    found = load_data(tmp_path, READY)
    assert found.class_names == ("cat", "dog")
    assert found.truth is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("file,age\n", "line 1 is the header, and no row follows"),
        ("file\na.png\n", "line 1 names no column"),
        ("a.png,1\nb.png,2\n", "line 1 holds numbers where names are needed; put a header row above it"),
        ("file,age,age\na.png,1,2\n", "line 1: column 3, 'age', is there twice"),
        ("file,,b\na.png,1,2\n", "line 1: column 2, '', is no name"),
        ("file,age\na.png,1\nb.png\n", "line 3 has 1 values, the header 2"),
        ("file,age\na.png,1,2\n", "line 2 has 3 values, the header 2"),
        ("file,age\na.png,1\nd.png,2\n", "line 3: no picture 'd.png' in"),
        ("file,age\na.png,1\n\na.png,2\n", "line 4: 'a.png' is in line 2 too"),
        ("file,age\na.png,1\nimages/a.png,2\n", "line 3: 'images/a.png' is in line 2 too"),
        ("file,age\na.png,\n", "line 2: age is missing"),
        ("file,age\na.png,old\n", "line 2: age is 'old'; a number is needed"),
        ("file,age\na.png,nan\n", "line 2: age is 'nan'; a number is needed"),
        ("file,age\na.png,-inf\n", "line 2: age is '-inf'"),
        ("file,age\n../x.png,1\n", "line 2: names the image '../x.png'"),
        ("file,age\n/etc/x.png,1\n", "line 2: names the image '/etc/x.png'"),
        ('file,age\n"a.png,1\n', "is no csv in UTF-8"),
    ],
)
def test_what_is_broken_is_one_line_with_its_number(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "p", text)
    with pytest.raises(BadInput) as caught:
        load_data(tmp_path / "p", READY, task="regression")
    assert str(caught.value).startswith(f"{tmp_path}/p/labels.csv: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_are_0_or_1(tmp_path: Path) -> None:
    folder(tmp_path, "file,hat,age\na.png,1,31\n")
    with pytest.raises(BadInput, match="line 2: age is 31; multi-label needs 0 or 1: leave that column out, or --task"):
        load_data(tmp_path, READY, task="multi-label")
    (tmp_path / "labels.csv").write_bytes(b"file,hat\na\xff.png,1\n")
    with pytest.raises(BadInput, match="is no csv in UTF-8"):
        table(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("file,x,y\na.png,1,2.5\nb.png,-3,1e2\n", [[1.0, 2.5], [-3.0, 100.0]]),
        ("file,word\na.png,AB 12\nb.png,\n", [["AB 12"], [""]]),  # a picture may hold no text
        ("file,read\na.png,0042\nb.png,13\n", [["0042"], ["13"]]),  # digits that are no number
    ],
)
def test_a_metric_of_ones_own_reads_numbers_or_text(
    text: str, rows: list[list[object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside it lies a file with the same rows, which is data too."""
    place = folder(tmp_path / "photos", text)
    (place / "august.csv").write_text(text)
    seen: list[tuple[str, list[object]]] = []

    def metric(answers: Mapping[str, Array], name: str, truth: Array) -> float:
        seen.append((Path(name).name, truth.tolist()))
        return 1.0

    for data in (place, place / "august.csv"):
        seen.clear()
        api.evaluate(net(tmp_path), data=data, metric=metric)
        assert seen == [("a.png", rows[0]), ("b.png", rows[1])]
    if not isinstance(rows[0][0], float):
        with pytest.raises(BadInput, match=r"line \d: (word|read) is '(AB 12|x)'"):
            load_data(folder(tmp_path / "other", text.replace("0042", "x")), READY, task="regression")


def test_rows_judge_int8_and_a_metric_of_two_arguments_needs_none(tmp_path: Path) -> None:
    names = tuple(f"{i}.png" for i in range(12))
    place = folder(tmp_path / "photos", "file,word\n" + "".join(f"{n},w{n}\n" for n in names[:9]), names)

    def same(answers: Mapping[str, Array], name: str, truth: Array) -> float:
        return float(truth[0] == f"w{Path(name).name}")

    kept = {"search_budget": 0.0, "allow_slower": True, "force": True}
    for data in (None, place):
        report = api.quantize(net(tmp_path), tmp_path / "q.onnx", place, data=data, metric=same, limit=4, **kept)  # type: ignore[arg-type]
        assert "by same" in report.judged_on
        assert "same 100.0 %" in report.verdict
    alone = api.evaluate(net(tmp_path), data=place, metric=lambda answers, name: 1.0)
    assert alone.models[0][1].images == len(names)  # what it does not ask for is not read


def net(folder: Path) -> Path:
    """One convolution, (N, 1, 8, 8) to (N, 2, 6, 6), which is of no known task."""
    model = build("g (float[N,1,8,8] x) => (float[N,2,6,6] y) { y = Conv(x, w) }", {"w": draw(2, 1, 3, 3)})
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def test_the_command_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "p", "file,age\na.png,\n")
    asked = [
        "train",
        "lenet5",
        "--task",
        "regression",
        "--data",
        str(tmp_path / "p"),
        "-o",
        str(tmp_path / "w.safetensors"),
    ]
    assert main(asked) == 2
    assert "labels.csv: line 2: age is missing" in capsys.readouterr().err


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_as_spreadsheets_write_them(separator: str, tmp_path: Path) -> None:
    """Told by the header row; where it is no comma, a comma is the decimal one."""
    rows = [["file", '"hat, red"', '"a;b"', "age"], ["a.png", "1", "0", "31.5"], ['"c.png"', "0", "1", "-2e1"]]
    found = load_data(folder(tmp_path, "\n".join(map(separator.join, rows))), READY, task="regression")
    assert found.class_names == ("hat, red", "a;b", "age")
    assert found.truth is not None
    assert found.truth.tolist() == [[1, 0, 31.5], [0, 1, -20]]


def test_decimal_commas(tmp_path: Path) -> None:
    found = load_data(folder(tmp_path, "\ufeff\r\nfile;age\r\na.png;31,5\r\nb.png;-0,25\r\n"), READY, task="regression")
    assert found.truth is not None
    assert found.truth.tolist() == [[31.5], [-0.25]]
    for text, words in (
        ("file;age\na.png;1,2,3\n", "line 2: age is '1,2,3'"),
        ("file,age\na.png;1\n", "line 2 has 1 val"),
    ):
        folder(tmp_path, text)
        with pytest.raises(BadInput, match=words):
            load_data(tmp_path, READY, task="regression")
