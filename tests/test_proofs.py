"""`edgecnn verify` of several bundles: each has its verdict, and the worst decides the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgecnn import api
from edgecnn.cli import main
from edgecnn.prediction.proofs import proofs_of
from exporters.pack import pack
from runtimes.base import BadInput, CheckFailed, Unavailable
from runtimes.session import open_session
from small_nets import conv_net
from test_pack import ABOUT
from test_predict import rewritten


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two bundles, `off.edge` whose golden outputs are off, `bad.edge` with a flipped byte, and `none.edge`, no zip."""
    monkeypatch.chdir(tmp_path)
    net = conv_net()
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    right = open_session(net)({"x": images})["y"]
    for name, answers in (("a.edge", right), ("b.edge", right), ("off.edge", right + np.float32(0.01))):
        pack(tmp_path / name, net, ABOUT, [images], [answers], 0.02)
    with zipfile.ZipFile("off.edge") as archive:
        manifest = json.loads(archive.read("manifest.json"))
    manifest["golden"]["limit_max_abs"] = 1e-3
    rewritten(tmp_path / "off.edge", "manifest.json", json.dumps(manifest).encode()).rename("off.edge")
    data = bytearray((tmp_path / "a.edge").read_bytes())
    data[data.index(b"model.onnx", 100) + 99] ^= 1
    (tmp_path / "bad.edge").write_bytes(data)
    (tmp_path / "none.edge").write_text("no zip")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "code", "lost"),
    [
        (["a.edge", "b.edge"], 0, []),
        (["a.edge", "off.edge", "b.edge"], 1, ["off.edge"]),
        (["bad.edge", "a.edge"], 1, ["bad.edge"]),
        (["none.edge", "a.edge"], 2, ["none.edge"]),
        (["none.edge", "bad.edge", "b.edge"], 2, ["none.edge", "bad.edge"]),
        (["gone.edge", "off.edge"], 2, ["gone.edge", "off.edge"]),
    ],
)
def test_each_has_its_verdict_and_the_worst_decides(
    names: list[str], code: int, lost: list[str], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *names]) == code
    out, err = capsys.readouterr()
    for name in names:
        assert (f"{name}: NOT proven" in out) == (name in lost)
        assert (f"error: {name}: " in err) == (name in lost)
        assert (f"{name}: proven on cpu" in out) == (name not in lost)
    assert err.count("\n") == len(lost), "a line for each that is not proven"
    assert f"{len(names) - len(lost)} of {len(names)} bundles proven" in out
    assert main(["verify", *names, "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] == (code == 0)
    assert [one["bundle"] for one in document["bundles"]] == names
    assert [one["bundle"] for one in document["bundles"] if not one["passed"]] == lost
    assert max(one["exit_code"] for one in document["bundles"]) == code
    assert [one["bundle"] for one in document["bundles"] if one["error"]] == lost


def test_the_document_of_each_is_that_of_one_alone(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = []
    for name in ("a.edge", "off.edge", "bad.edge"):
        main(["verify", name, "--json"])
        alone.append(json.loads(capsys.readouterr().out))
    assert "bundles" not in alone[0]
    main(["verify", "a.edge", "off.edge", "bad.edge", "--json"])
    for one, together in zip(alone, json.loads(capsys.readouterr().out)["bundles"], strict=True):
        assert together.items() >= {k: v for k, v in one.items() if k != "error"}.items()


def test_from_python_a_list_raises_for_none_of_them(files: Path) -> None:
    found = api.verify([files / "bad.edge", "a.edge", "none.edge"])
    assert [proof.report is not None for proof in found.proofs] == [False, True, False]
    assert [type(error) for error in found.failures] == [CheckFailed, BadInput]
    assert isinstance(found.failure, BadInput)
    assert found.to_dict()["bundles"][0]["hashes"] is False
    assert api.verify(["a.edge"]).failure is None
    assert "bundle" in api.verify("a.edge").to_dict()
    with pytest.raises(BadInput, match="no bundle: name one or several"):
        api.verify([])


def test_what_is_raised_for_one_does_not_stop_the_next() -> None:
    def verify(name: str) -> object:
        raise {"full": OSError(28, "No space left on device", "x"), "far": Unavailable("cuda: no driver")}[name]

    found = proofs_of(["far", "full"], verify)  # type: ignore[arg-type]
    assert [str(error) for error in found.failures] == [
        "x: No space left on device; free the place or choose another", "cuda: no driver",
    ]  # fmt: skip
    assert [proof.to_dict()["exit_code"] for proof in found.proofs] == [4, 2]
    with pytest.raises(KeyError):  # a bug is told as such
        proofs_of(["unknown"], verify)  # type: ignore[arg-type]


def test_in_a_process_of_its_own(files: Path) -> None:
    """The models are opened where a crash can be told."""
    command = [sys.executable, "-m", "edgecnn", "verify", "a.edge", "bad.edge"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
