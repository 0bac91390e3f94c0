"""The networks in `edgecnn/models`: listed without torch from a generated index, built on demand.

    rows = list_models()             name, file, task, input, parameters, MACs, paper      imports no torch
    spec = find("resnet18")          the record to build it from                           imports its file, and torch

`edgecnn/models/index.json` is written by `python -m edgecnn.models`. A file that is not in the index yet (one just
added) is imported and listed all the same: the folder is the registry, the index only saves time.
Test: tests/test_models.py.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import edgecnn.models
from edgecnn.networks.spec import ModelSpec, Shape
from edgecnn.words import amount, size
from runtimes import plugins
from runtimes.base import BadInput

INDEX = Path(edgecnn.models.__file__).with_name("index.json")
BEGIN, END = "<!-- written by `python -m edgecnn.models` -->", "<!-- end -->"


@dataclass(frozen=True)
class ZooRow:
    """One line of `edgecnn models`. `macs`: multiply-adds for one image of `input_shape` (C, H, W)."""

    name: str
    file: str
    task: str
    input_shape: Shape
    num_classes: int
    params: int
    macs: int
    paper: str

    @property
    def size_bytes(self) -> int:
        """Of the weights in float32."""
        return 4 * self.params

    def to_dict(self) -> dict[str, object]:
        """For `edgecnn models --json`; `size` in bytes."""
        return {
            "name": self.name,
            "task": self.task,
            "input": list(self.input_shape),
            "classes": self.num_classes,
            "params": self.params,
            "macs": self.macs,
            "size": self.size_bytes,
            "paper": self.paper,
        }


def list_models() -> tuple[ZooRow, ...]:
    """One row per network, in the order of the files; imports torch only for files that the index lacks."""
    rows = [row for row in read_index() if row.file in plugins.names(edgecnn.models)]
    indexed = {row.file for row in rows}
    new = [row for file in plugins.names(edgecnn.models) if file not in indexed for row in describe(file)]
    return tuple(rows + new)


def find(name: str) -> ModelSpec:
    """The record of the network called `name`; raises `BadInput` with the nearest names when there is none."""
    file = next((row.file for row in list_models() if row.name == name), None)
    if file is None:
        raise BadInput(plugins.unknown(name, [row.name for row in list_models()], "network"))
    return next(spec for spec in specs(file) if spec.name == name)


def specs(file: str) -> tuple[ModelSpec, ...]:
    """The records in `edgecnn/models/FILE.py`."""
    found: tuple[ModelSpec, ...] = plugins.load(edgecnn.models, file, "file of networks").SPECS
    return found


def describe(file: str) -> tuple[ZooRow, ...]:
    """Rows of one file, counted afresh by building every variant on torch's meta device (shapes without numbers)."""
    import torch

    from edgecnn.numbers.count import count

    rows = []
    for spec in specs(file):
        with torch.device("meta"):
            counted = count(spec.build(num_classes=spec.num_classes), spec.input_shape)
        shape, classes = spec.input_shape, spec.num_classes
        rows.append(ZooRow(spec.name, file, spec.task, shape, classes, counted.params, counted.macs, spec.paper))
    return tuple(rows)


@functools.cache
def read_index() -> tuple[ZooRow, ...]:
    rows = json.loads(INDEX.read_text("utf-8")) if INDEX.exists() else []
    return tuple(ZooRow(**{**row, "input_shape": tuple(row["input_shape"])}) for row in rows)


def index_text() -> str:
    """What `index.json` must say: one row a line, in the order of the files."""
    rows = [asdict(row) for file in plugins.names(edgecnn.models) for row in describe(file)]
    return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]\n"


def table_text(rows: Iterable[ZooRow]) -> str:
    """The zoo as the Markdown table of docs/zoo.md."""
    lines = ["| name | task | input | parameters | MACs | float32 | paper |", "|---|---|---|---:|---:|---:|---|"]
    for row in rows:
        shape, macs = "x".join(map(str, row.input_shape)), amount(row.macs)
        cells = (f"`{row.name}`", row.task, shape, f"{row.params:,}", macs, size(row.size_bytes), row.paper)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_table(page: str, table: str) -> str:
    """The text `page` with what stands between its two marks replaced by `table`."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{begin}\n{table}{end}{after}"
