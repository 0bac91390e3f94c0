"""Pictures with a row of numbers each: labels.csv beside them, for the tasks multi-label, regression and keypoints, and
for a metric of the user's own, which takes text as well.

    photos/labels.csv        file,smiles,hat           a header row; then a picture, and a number for each name
                             a.jpg,1,0                 0 and 1 for multi-label, any numbers for regression; for a
                                                       metric of one's own numbers, or text in all columns
    photos/images/a.jpg      or photos/a.jpg           pictures that no row names are left out

The folder may stand below train/ and val/ (or test/). The csv itself can be given as DATA. Names of the columns are
those of the labels, or of the numbers. UTF-8; quoted as the csv module reads it. Where the header row has more columns
by `;` or tabs than by commas it is read so, as Excel writes it where numbers have a decimal comma: 0,5 is a half there.
Test: tests/test_table.py.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from edgecnn.data.annotated import IMAGES, Parts, Reader, folders, inside, pictures
from edgecnn.data.folders import TEST, TRAIN
from edgecnn.data.labels import NAME_LIMIT
from edgecnn.data.samples import Samples
from edgecnn.tasks import KEYPOINTS, MULTI_LABEL, REGRESSION
from runtimes.base import BadInput
from runtimes.files import check_input_file
from runtimes.imaging.preprocess import Preprocess

TABLE, SUFFIX = "labels.csv", ".csv"
LIMIT_BYTES = 256 << 20
COMMA, SEPARATORS = ",", (",", ";", "\t")
OWN = "own metric"
"""What rows are read for, in place of a task, where a metric of the user's own compares with them."""
READ = (MULTI_LABEL, REGRESSION, KEYPOINTS, OWN)


@dataclass(frozen=True)
class Row:
    """`line` of the file, and what stands in it behind the picture."""

    line: int
    picture: str
    cells: tuple[str, ...]


def parts(root: Path, task: str) -> Parts | None:
    """The parts of the folder drawn above, or None; other tasks have no use for it."""
    return folders(root, lambda place: _reader(place, task)) if task in READ else None


def file_parts(path: Path, task: str) -> Parts | None:
    """The pictures that one csv names, or None for another file."""
    return {"all": partial(_read, path.parent, path, task)} if path.suffix == SUFFIX else None


def unread(data: object) -> str:
    """What reads the labels.csv in the folder `data`, for who has read it as something else; empty without one."""
    ways = f"--task {MULTI_LABEL}, {REGRESSION} or {KEYPOINTS}"
    return f"its {TABLE} is read with {ways}" if is_in(data) else ""


def rows_for(data: object, task: str, asked: bool) -> str:
    """What `data` is read for by a model of this `task`, where `asked`: a metric of the user's own wants the truth."""
    return OWN if asked and (is_in(data) or (isinstance(data, str) and Path(data).suffix == SUFFIX)) else task


def is_in(data: object) -> bool:
    """Whether `data` is a folder with a labels.csv."""
    return isinstance(data, str) and any((Path(data) / part / TABLE).is_file() for part in ("", *TRAIN, *TEST))


def _reader(root: Path, task: str) -> Reader | None:
    path = root / TABLE
    return partial(_read, root, path, task) if path.is_file() else None


def _read(root: Path, path: Path, task: str, preprocess: Preprocess) -> Samples:
    names, rows = table(path)
    files = _files(root, path, rows)
    name = str(root if path.name == TABLE else path)
    if task == OWN and any(_is_text(cell) for row in rows for cell in row.cells):
        text = np.array([[cell.strip() for cell in row.cells] for row in rows])
        return replace(pictures(name, files, preprocess, ()), truth=text)
    values = [
        [_number(path, row, name, cell, task) for name, cell in zip(names, row.cells, strict=True)] for row in rows
    ]
    named = () if task in (OWN, KEYPOINTS) else names
    return replace(pictures(name, files, preprocess, named), truth=np.array(values, np.float64))


def table(path: Path) -> tuple[tuple[str, ...], list[Row]]:
    """(names of the columns behind the first, rows) of a csv; raises `BadInput` with the line for what is broken."""
    lines = list(_lines(path))
    if not lines:
        raise BadInput(f"{path}: is empty; a header row, and a row for each picture, are needed")
    (number, header), *rest = lines
    names = tuple(name.strip() for name in header[1:])
    _check_names(path, number, names)
    if not rest:
        raise BadInput(f"{path}: line {number} is the header, and no row follows; give one for each picture")
    for number, cells in rest:
        if len(cells) != len(header):
            raise BadInput(
                f"{path}: line {number} has {len(cells)} values, the header {len(header)}; give one for each"
            )
    return names, [Row(number, cells[0].strip(), tuple(cells[1:])) for number, cells in rest]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of each row that is not empty; a row over several lines has the number of its last."""
    try:
        text = check_input_file(path, LIMIT_BYTES).read_bytes().decode("utf-8-sig")
        lines = text.splitlines(keepends=True)
        separator = separator_of(next((line for line in lines if line.strip()), ""))
        reader = csv.reader(lines, strict=True, delimiter=separator)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells if separator == COMMA else [_pointed(cell) for cell in cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: is no csv in UTF-8 ({str(error)[:80]}); save it as such") from error


def separator_of(header: str) -> str:
    """What parts the columns of a `header` row: whichever makes most of them, else the comma.

    >>> separator_of('file;"a;b";c, d'), separator_of("file,a;b")
    (';', ',')
    """
    return max(SEPARATORS, key=lambda separator: len(next(csv.reader([header], delimiter=separator), [])))


def _pointed(cell: str) -> str:
    """`cell` with a decimal point where it is a number with a decimal comma; else as it is."""
    pointed = cell.replace(COMMA, ".")
    return pointed if COMMA in cell and _value(pointed) is not None else cell


def _check_names(path: Path, number: int, names: Sequence[str]) -> None:
    if not names:
        raise BadInput(
            f"{path}: line {number} names no column behind the picture's; write file,NAME,... there, or with ; or tabs"
        )
    if all(_value(name) is not None for name in names):
        raise BadInput(f"{path}: line {number} holds numbers where names are needed; put a header row above it")
    for i, name in enumerate(names):
        if not 0 < len(name) <= NAME_LIMIT or not name.isprintable() or name in names[:i]:
            what = "is there twice" if name in names[:i] else f"is no name of 1 to {NAME_LIMIT} printable characters"
            raise BadInput(f"{path}: line {number}: column {i + 2}, {name[:40]!r}, {what}; mend it")


def _files(root: Path, path: Path, rows: Sequence[Row]) -> list[Path]:
    """The pictures of `rows`; raises `BadInput` for one that is not there, and for one that was named before."""
    lines: dict[str, int] = {}
    found = []
    for row in rows:
        places = [inside(folder, row.picture, f"{path}: line {row.line}") for folder in (root, root / IMAGES)]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            where = " and ".join(str(folder) for folder in (root, root / IMAGES) if folder.is_dir())
            raise BadInput(f"{path}: line {row.line}: no picture {row.picture[:80]!r} in {where}; mend its name")
        before = lines.setdefault(os.path.normpath(file), row.line)
        if before != row.line:
            raise BadInput(f"{path}: line {row.line}: {row.picture[:80]!r} is in line {before} too; leave one")
        found.append(file)
    return found


def _number(path: Path, row: Row, name: str, cell: str, task: str) -> float:
    value = _value(cell)
    subject = f"{path}: line {row.line}: {name[:40]}"
    if value is None or not math.isfinite(value):
        what = "is missing" if not cell.strip() else f"is {cell.strip()[:40]!r}"
        raise BadInput(f"{subject} {what}; a number is needed, or leave the row out")
    if task == MULTI_LABEL and value not in (0, 1):
        raise BadInput(
            f"{subject} is {value:g}; {MULTI_LABEL} needs 0 or 1: leave that column out, or --task {REGRESSION}"
        )
    return value


def _is_text(cell: str) -> bool:
    """
    >>> [cell for cell in ("-0.5", "", "1e3", "0", "AB 12", "0042") if _is_text(cell)]
    ['AB 12', '0042']
    """
    cell = cell.strip()
    return bool(cell) and (_value(cell) is None or (cell[:1] == "0" and cell[1:2].isdigit()))


def _value(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
