"""Answers that are numbers: in memory while they fit, in files where asked for, for tasks that nobody knows too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgecnn import api
from edgecnn.cli import main
from exporters.pack import pack
from runtimes.base import BadInput
from runtimes.device.main import main as device
from runtimes.proof import numbers, prediction
from small_nets import model
from test_predict import ABOUT

TWO = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] file, float[N, 2] xy) {
    file = Relu (x)
    m = GlobalAveragePool (x)
    f = Flatten (m)
    xy = MatMul (f, w)
}
"""
X = np.random.default_rng(0).standard_normal((3, 3, 8, 8), np.float32)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Two outputs of no known task; one is called as a parameter of numpy.savez is."""
    net = model(TWO, w=np.ones((3, 2), np.float32))
    outputs = [np.maximum(X, 0), X.mean((2, 3)).sum(1, keepdims=True).repeat(2, 1)]
    pack(tmp_path / "net.edge", net, {**ABOUT, "task": "other", "labels": []}, [X], outputs, 1e-5)
    return tmp_path / "net.edge"


def test_outputs_of_no_known_task_are_numbers(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = api.run(bundle, X)
    for i, found in enumerate(report.numbers):
        assert [one.output for one in found.outputs] == ["file", "xy"]
        np.testing.assert_array_equal(found.arrays["file"], np.maximum(X[i], 0))
        assert found.outputs[0].high == np.maximum(X[i], 0).max()
        np.testing.assert_allclose(found.outputs[1].values, X[i].mean((1, 2)).sum(), atol=1e-6)
    assert "file: 3x8x8 numbers from 0.00 to" in report.numbers[0].words
    np.save(bundle.parent / "x.npy", X)
    assert main(["run", str(bundle), str(bundle.parent / "x.npy"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["predictions"][1]
    assert document["outputs"][1]["shape"] == [2]
    assert "arrays" not in document


@pytest.mark.parametrize("edgecnn", [True, False])
def test_every_output_goes_into_a_file(
    bundle: Path, capsys: pytest.CaptureFixture[str], edgecnn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.parent)
    np.save("x.npy", X)
    words = ["x.npy", "--save", "out/deep"]
    call = (lambda: main(["run", "net.edge", *words])) if edgecnn else (lambda: device(["run", *words], "net.edge"))
    assert call() == 0
    files = sorted(Path("out/deep").iterdir())
    assert [file.name for file in files] == ["x.npy_0.npz", "x.npy_1.npz", "x.npy_2.npz"]
    for i, file in enumerate(files):
        saved = np.load(file)
        assert sorted(saved) == ["file", "xy"]
        np.testing.assert_array_equal(saved["file"], np.maximum(X[i], 0))
    capsys.readouterr()
    assert call() == 2, "they are there"
    assert "x.npy_0.npz: exists" in capsys.readouterr().err
    words.append("--force")
    assert call() == 0


def test_arrays_are_handed_on_while_they_fit(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = numbers.Keeping(2 * (3 * 8 * 8 + 2) * 4)
    monkeypatch.setattr(prediction, "Keeping", lambda: held)
    assert [bool(one.arrays) for one in api.run(bundle, X).numbers] == [True, True, False]


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(bundle: Path) -> None:
    (bundle.parent / "out").write_text("")
    with pytest.raises(BadInput, match=r"out.*is no folder"):
        api.run(bundle, X, save=bundle.parent / "out" / "deep")
