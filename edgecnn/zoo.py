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
from dataclasses import asdict, dataclass
from pathlib import Path

import edgecnn.models
from edgecnn.spec import ModelSpec, Shape
from runtimes import plugins
from runtimes.base import BadInput

INDEX = Path(edgecnn.models.__file__).with_name("index.json")


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

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "input_shape": list(self.input_shape)}


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

    from edgecnn.count import count

    rows = []
    for spec in specs(file):
        with torch.device("meta"):
            size = count(spec.build(num_classes=spec.num_classes), spec.input_shape)
        shape, classes = spec.input_shape, spec.num_classes
        rows.append(ZooRow(spec.name, file, spec.task, shape, classes, size.params, size.macs, spec.paper))
    return tuple(rows)


@functools.cache
def read_index() -> tuple[ZooRow, ...]:
    rows = json.loads(INDEX.read_text("utf-8")) if INDEX.exists() else []
    return tuple(ZooRow(**{**row, "input_shape": tuple(row["input_shape"])}) for row in rows)


def index_text() -> str:
    """What `index.json` must say: one row a line, in the order of the files."""
    rows = [row.to_dict() for file in plugins.names(edgecnn.models) for row in describe(file)]
    return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]\n"
