"""The page on Python: its blocks run, and its tables have every call, its record, its places and every error."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest

from edgecnn import api
from edgecnn.cli import main
from small_nets import conv_net, model, save

AUDIO = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 1, 16000] x) => (float[N, 4] y) {
    a = Conv <kernel_shape = [9], strides = [8]> (x, w)
    b = Relu (a)
    c = GlobalAveragePool (b)
    d = Flatten (c)
    y = MatMul (d, v)
}
"""

PAIR = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 32, 32] image, float[N, 4] meta) => (float[N, 10] y) {
    a = Conv <kernel_shape = [3, 3]> (image, w)
    b = Relu (a)
    c = GlobalAveragePool (b)
    d = Flatten (c)
    e = Concat <axis = 1> (d, meta)
    y = MatMul (e, v)
}
"""

PAGE = (Path(__file__).parent.parent / "docs/python.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    """Cells of the table below `heading`, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    save(model(AUDIO, w=np.ones((4, 1, 9), np.float32), v=np.eye(4, dtype=np.float32)), Path("audio.onnx"))
    save(conv_net(), Path("net.onnx"))
    seeded = np.random.default_rng(0).standard_normal
    pair = {"w": seeded((16, 3, 3, 3), np.float32), "v": seeded((20, 10), np.float32)}
    save(model(PAIR, **pair), Path("pair.onnx"))
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
        printed = capsys.readouterr().out
        for line, promised in re.findall(r"^(?!\s*#)(.*)  # (?!N, )(.*)$", block, re.MULTILINE):
            for part in promised.split(", ") if "track" in line else [promised]:
                assert part in printed, (line, promised)
    assert len(repr(names["int8"])) < 5_000  # a cell of a notebook shows it
    assert names["strict"].failure.exit_code == 1  # type: ignore[attr-defined]
    assert main(["inspect", "net.onnx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(api.inspect("net.onnx").to_dict()))


def test_every_call_is_there_with_its_places_and_its_record() -> None:
    found = {}
    for call, returned, _ in rows("Calls"):
        name, given = re.fullmatch(r"`(\w+)\((.*)\)`", call).groups()  # type: ignore[union-attr]
        found[name] = given.partition("*")[0].strip(", ").split(", ")
        records = inspect.signature(getattr(api, name)).return_annotation
        assert re.findall(r"`([A-Z]\w+)`", returned) == re.findall(r"[A-Z]\w+", records)
    assert sorted(found) == sorted(api.HOMES)
    for name, places in found.items():
        parameters = inspect.signature(getattr(api, name)).parameters.values()
        assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == [p for p in places if p]


def test_what_the_page_says_of_a_record_is_there() -> None:
    with_failure = PAGE.partition("the records of ")[2].partition(" have it as `failure`")[0]
    for call, _, told in rows("Calls"):
        name, words = call[1:].partition("(")[0], re.findall(r"`(\w+)`", told)
        made = inspect.signature(getattr(api, name)).return_annotation.split(" | ")[0]
        record = made.removeprefix("tuple[").partition(",")[0].removesuffix("]")
        home = inspect.getmodule(inspect.unwrap(getattr(api, name)))
        kind = getattr(home, record)
        fields = set(getattr(kind, "__dataclass_fields__", {})) | set(dir(kind))
        assert {*words, *(() if name == "load" else ("to_dict",))} <= fields, name  # what it returns is no record
        assert ("failure" in fields) == (f"`{name}`" in with_failure), name


def test_every_error_is_there() -> None:
    assert {name: int(code) for name, code, _ in ((r[0].strip("`"), r[1], r[2]) for r in rows("Errors"))} == {
        name: getattr(api, name).exit_code for name in api.ERRORS
    }


def test_the_calls_without_progress_are_named() -> None:
    last = PAGE.rstrip().splitlines()[-1]
    assert set(re.findall(r"`(\w+)`", last)) == {
        name for name in api.HOMES if "track" not in inspect.signature(getattr(api, name)).parameters
    }
