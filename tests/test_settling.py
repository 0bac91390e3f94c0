"""A bundle that keeps both graphs settles on the one that is right and faster on the machine where it runs."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgecnn import api
from edgecnn.cli import main
from exporters.pack import Beside, Golden, pack
from runtimes.base import BadInput, CheckFailed
from runtimes.bundle import FLOAT_MODEL, MANIFEST, MODEL, open_bundle, verify
from runtimes.device.main import main as device
from runtimes.proof import settling
from runtimes.proof.settling import settle
from runtimes.session import open_session
from runtimes.timing.ratios import Ratio
from small_nets import model

X = np.random.default_rng(0).standard_normal((3, 4, 16, 16)).astype(np.float32)
ABOUT: dict[str, Any] = {
    "name": "made", "task": "features", "labels": [], "preprocess": None, "created_by": "edgecnn 0",
    "chosen": "int8", "winner": "int8", "verdict": "int8 for arm: predicted, not measured",
    "machine": {"cpu": "where it was built", "isa": ["vnni"]}, "race": None,
    "target": {"name": "arm", "this_cpu": False},
    "input": {"name": "x", "dtype": "float32", "shape": ["N", 4, 16, 16]},
    "output": {"name": "y", "dtype": "float32", "shape": ["N", 4, 16, 16]},
    "candidates": [
        {"name": "float", "kind": "float", "p50_ms": None, "speedup": None, "refused": ""},
        {"name": "plain int8", "kind": "int8", "p50_ms": 1.5, "speedup": {"ratio": 2}, "refused": "-"},
        {"name": "int8", "kind": "int8", "p50_ms": None, "speedup": None, "snr_db": 31.0, "refused": ""},
    ],
}  # fmt: skip


def network(layers: int, bias: float = 0.0) -> onnx.ModelProto:
    """The identity through `layers` convolutions, `bias` added: more layers take longer and answer the same."""
    body = "".join(f"h{i + 1} = Conv<pads=[1,1,1,1]>(h{i}, W)\n" for i in range(layers))
    text = f"g (float[N,4,16,16] x) => (float[N,4,16,16] y) {{ h0 = Add(x, B)\n{body}y = Identity(h{layers}) }}"
    weight = np.zeros((4, 4, 3, 3), np.float32)
    weight[range(4), range(4), 1, 1] = 1
    return model(
        f'<ir_version: 8, opset_import: ["" : 17]> {text}', W=weight, B=np.full((1, 4, 1, 1), bias, np.float32)
    )


FAST, SLOW = network(1), network(12)


def both(path: Path, chosen: onnx.ModelProto, beside: onnx.ModelProto, off: float = 0.0, **about: Any) -> Path:
    """A bundle of `chosen` and `beside`, whose original is the identity and whose `chosen` is `off` from it."""
    pack(path, chosen, {**ABOUT, **about}, [X], [X], off, beside=Beside(beside, Golden([X], [X], 0.0)))
    return path


def changed(path: Path, members: dict[str, bytes] | None = None, **entries: Any) -> Path:
    """The bundle with other `members`, whose hashes are right, and other entries in its manifest."""
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist()} | (members or {})
    manifest = json.loads(found[MANIFEST])
    for name, data in (members or {}).items():
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    found[MANIFEST] = json.dumps({**manifest, **entries}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in found.items():
            archive.writestr(name, data)
    return path


def test_the_faster_int8_graph_is_kept_alone(tmp_path: Path) -> None:
    source = both(tmp_path / "net.edge", FAST, SLOW)
    report = settle(source, tmp_path / "here.edge")
    assert (report.chosen, report.speedup.verdict) == ("int8", "faster")
    assert report.speedup.ratio > 1.5
    assert "chose int8" in report.verdict
    found = open_bundle(tmp_path / "here.edge")
    assert not found.keeps_float
    assert FLOAT_MODEL not in found.archive.members
    assert verify(found).passed
    assert found.read(MODEL) == open_bundle(source).read(MODEL)
    assert found.code == open_bundle(source).code
    assert report.size_bytes == (tmp_path / "here.edge").stat().st_size


def test_a_slower_int8_graph_makes_room_for_float(tmp_path: Path) -> None:
    source = both(tmp_path / "net.edge", SLOW, FAST, off=0.25)
    report = settle(source, tmp_path / "here.edge")
    assert (report.chosen, report.speedup.verdict) == ("float", "slower")
    assert report.verdict.endswith("kept float")
    found = open_bundle(tmp_path / "here.edge")
    assert found.read(MODEL) == open_bundle(source).read(FLOAT_MODEL)
    assert (found.chosen, found.manifest["winner"]) == ("float", "float")
    assert found.limits()["limit_max_abs"] < 1e-3 < open_bundle(source).limits()["limit_max_abs"]  # float's own limit
    assert verify(found).passed
    want = open_session(FAST)({"x": X})["y"]
    np.testing.assert_allclose(found.session()({"x": X})["y"], want, rtol=0, atol=1e-6)


def test_the_manifest_tells_this_machine_and_keeps_what_was_told(tmp_path: Path) -> None:
    report = settle(both(tmp_path / "net.edge", FAST, SLOW), tmp_path / "here.edge", threads=1)
    told = open_bundle(tmp_path / "here.edge").manifest
    assert told["machine"] == report.machine.to_dict() != ABOUT["machine"]
    assert told["race"]["times_ms"]["int8"] == list(report.race.times_ms("int8"))
    assert told["race"]["threads"] == 1
    assert told["settled"]["machine"] == ABOUT["machine"]
    assert told["settled"]["verdict"] == ABOUT["verdict"]
    assert told["target"] == {"name": "arm", "this_cpu": True}  # raced here, no longer predicted
    float_row, plain, int8 = told["candidates"]
    assert float_row["p50_ms"] == report.float_graph.p50_ms
    assert float_row["speedup"] is None
    assert (plain["p50_ms"], plain["speedup"]) == (None, None)  # not packed, so not raced here
    assert int8["speedup"]["ratio"] == report.speedup.ratio
    assert int8["snr_db"] == 31.0


def test_an_int8_graph_that_is_wrong_here_is_not_used_however_fast(tmp_path: Path) -> None:
    source = both(tmp_path / "net.edge", network(1, bias=0.5), SLOW, off=0.5)
    changed(source, golden={"limit_max_abs": 0.25, "images": 3})
    report = settle(source, tmp_path / "here.edge")
    assert report.chosen == "float"
    assert report.speedup.verdict == "faster"
    assert "int8: golden outputs differ by 0.5, the limit is 0.25 here: kept float" in report.verdict
    assert open_bundle(tmp_path / "here.edge").manifest["candidates"][2]["refused"]
    assert verify(open_bundle(tmp_path / "here.edge")).passed


def test_a_float_graph_that_is_wrong_here_writes_nothing(tmp_path: Path) -> None:
    source = both(tmp_path / "net.edge", FAST, SLOW)
    changed(source, {FLOAT_MODEL: network(1, bias=1.0).SerializeToString()})
    with pytest.raises(CheckFailed, match=r"golden outputs of its float graph differ by 1.* nothing written"):
        settle(source, tmp_path / "here.edge")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.edge"]


@pytest.mark.parametrize(
    ("ratio", "word", "kept", "ends"),
    [
        (1.5, "faster", MODEL, "chose int8"),
        (0.5, "slower", FLOAT_MODEL, "(95 %: 0.45 to 0.55): kept float"),
        (1.0, "same", FLOAT_MODEL, "no gain beyond the noise: kept float"),
        (1.01, "inconclusive", FLOAT_MODEL, "no gain beyond the noise: kept float"),
        (1.3, "inconclusive", FLOAT_MODEL, "too uncertain to count on: kept float"),
    ],
)
def test_a_draw_is_floats(ratio: float, word: Any, kept: str, ends: str, tmp_path: Path) -> None:
    rival = settle(both(tmp_path / "net.edge", FAST, SLOW), tmp_path / "here.edge").rival
    found = Ratio("int8", "float", ratio, 0.9 * ratio, 1.1 * ratio, word)
    member, verdict = settling.settled(rival, found)
    assert member == kept
    assert verdict.endswith(ends)


def test_what_wins_on_several_threads_must_not_lose_on_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = settling.race

    def recorded(calls: Any, rounds: int, **given: Any) -> Any:
        asked.append(given["threads"])
        if len(asked) == 2:  # the same two the other way round
            calls = {"float": calls["int8"], "int8": calls["float"]}
        return real(calls, rounds=20, **given)

    monkeypatch.setattr(settling, "race", recorded)
    source = both(tmp_path / "net.edge", FAST, SLOW)
    report = settle(source, tmp_path / "here.edge", threads=2)
    assert asked == [2, 1]
    assert report.chosen == "float"
    assert "on one thread in CPU time: kept float" in report.verdict
    asked.clear()
    assert settle(source, tmp_path / "here.edge", threads=1, force=True).chosen == "int8"
    assert asked == [1]


def test_a_race_that_cannot_tell_is_run_once_more_and_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, float, int]] = []
    real = settling.race

    def recorded(calls: Any, rounds: int, **given: Any) -> Any:
        asked.append((rounds, given["seconds"], given["seed"]))
        run = real(calls, rounds=12, **{**given, "seconds": None})
        doubtful = Ratio("int8", "float", 1.2, 0.9, 1.4, "inconclusive")
        return replace(run) if len(asked) > 1 else type("Unsure", (), {"ratio": lambda *_: doubtful})()

    monkeypatch.setattr(settling, "race", recorded)
    assert settle(both(tmp_path / "net.edge", FAST, SLOW), tmp_path / "here.edge", seed=7).chosen == "int8"
    assert asked == [(300, 5.0, 7), (900, 15.0, 9)]


def test_what_cannot_be_settled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(tmp_path / "one.edge", FAST, ABOUT, [X], [X], 0.0)
    with pytest.raises(BadInput, match=r"holds one graph \(int8\), nothing to settle; `build --keep-float` keeps both"):
        settle(tmp_path / "one.edge", tmp_path / "here.edge")
    source = both(tmp_path / "net.edge", FAST, SLOW)
    with pytest.raises(BadInput, match=r"a bundle's name ends in .edge"):
        settle(source, tmp_path / "here.onnx")
    before = source.read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        settle(source, tmp_path / "one.edge")
    with pytest.raises(BadInput, match=r"net\.edge: is the input itself; give another name"):
        settle(source, source, force=True)  # the float graph would be lost
    assert source.read_bytes() == before
    source.write_bytes(before[:-400])
    assert main(["settle", str(source), "-o", str(tmp_path / "x.edge")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "x.edge").exists()


def test_a_manifest_that_promises_a_float_graph_must_hold_one(tmp_path: Path) -> None:
    pack(tmp_path / "one.edge", FAST, ABOUT, [X], [X], 0.0)
    for entry in ({"golden": {"limit_max_abs": 0.1, "images": 3}}, {}, 7):
        with pytest.raises(BadInput, match="has a wrong 'float'"):
            open_bundle(changed(tmp_path / "one.edge", float=entry))
    source = both(tmp_path / "net.edge", FAST, SLOW)
    with pytest.raises(BadInput, match="has a wrong 'float'"):
        open_bundle(changed(source, float={"golden": {"limit_max_abs": 0.1}}))


@pytest.mark.parametrize("odd", [{"candidates": 7, "target": []}, {"candidates": ["x", None], "target": None}])
def test_a_manifest_that_tells_oddly_of_its_race_is_settled_all_the_same(odd: dict[str, Any], tmp_path: Path) -> None:
    source = changed(both(tmp_path / "net.edge", FAST, SLOW), winner=[], **odd)
    assert settle(source, tmp_path / "here.edge").chosen == "int8"
    assert open_bundle(tmp_path / "here.edge").manifest["candidates"] == []


def test_command_line_device_and_call_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = both(tmp_path / "net.edge", FAST, SLOW)
    assert main(["settle", str(source), "-o", str(tmp_path / "a.edge"), "--json"]) == 0
    here = json.loads(capsys.readouterr().out)
    assert device(["settle", "-o", str(tmp_path / "b.edge"), "--json"], str(source)) == 0
    there = json.loads(capsys.readouterr().out)
    call = api.settle(source, tmp_path / "c.edge").to_dict()
    assert here.keys() == there.keys() == call.keys()
    assert [each["chosen"] for each in (here, there, call)] == ["int8"] * 3
    assert [c["name"] for c in here["candidates"]] == ["float", "int8"]
    assert here["clock"] in ("cpu", "wall")
    assert here["threads"] == there["threads"] == 1
    assert device(["settle", "-o", str(tmp_path / "a.edge")], str(source)) == 2
    assert "exists already" in capsys.readouterr().err
    assert device([], str(source)) == 0
    assert "the float graph; `settle` chooses between the two" in capsys.readouterr().out
    assert device(["settle", "-o", str(tmp_path / "a.edge"), "--force"], str(source)) == 0
    table = capsys.readouterr().out
    assert "graph  median ms  speed-up" in table
    assert "chose int8" in table
    assert device(["settle", "-o", str(tmp_path / "d.edge")], str(source)) == 0
    assert capsys.readouterr().out.rstrip().endswith("d.edge --force")  # the line to run again
