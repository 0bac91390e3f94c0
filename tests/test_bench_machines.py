"""bench/machines.py: answers that are kept, and compared with those of the same file or another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from small_nets import conv_net, save
from test_bench import ROOT, load

machines = load(ROOT / "bench" / "machines.py")


def test_answers_of_one_machine_are_equal_and_changed_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machines, "RESULTS", tmp_path / "results.jsonl")
    model, kept = save(conv_net(), tmp_path / "net.onnx"), tmp_path / "kept.npz"
    assert machines.main(["keep", str(kept), str(model)]) == 0
    assert machines.main(["compare", str(kept), str(model)]) == 0
    assert "| `net.onnx` | 100.0% | inf |" in capsys.readouterr().out
    assert not machines.RESULTS.exists(), "no note, no result"

    with np.load(kept) as given:
        values = dict(given)
    name = next(name for name in values if name != machines.NAME)
    values[name].flat[0] *= 2
    np.savez(kept, **values)
    assert machines.main(["compare", str(kept), str(model), "--note", "by hand"]) == 0
    row = json.loads(machines.RESULTS.read_text())
    assert row["equal"] == 1 - 1 / values[name].size
    assert row["snr_db"] < 60
    assert row["compared_on"] == f"{row['kept_on']}, by hand"
    capsys.readouterr()
    assert machines.main(["table"]) == 0
    assert f"| `net.onnx` | {row['equal']:.1%} | {row['snr_db']:.1f} dB |" in capsys.readouterr().out


def test_models_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        machines.main(["keep", "kept.npz"])
    assert ended.value.code == 2
    assert "give a file for the answers, and models" in capsys.readouterr().err
