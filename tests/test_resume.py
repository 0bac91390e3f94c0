"""An interrupted training goes on to the same bytes, only with the same arguments, and is never lost by accident."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from edgecnn.cli._errors import explain
from edgecnn.training import resume
from edgecnn.training.train import train
from runtimes.base import BadInput

NETS = """
from torch import nn

class Dropping(nn.Module):
    input_shape = (3, 32, 32)

    def __init__(self, num_classes=3):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
                                 nn.Linear(8 * 15 * 15, num_classes))

    def forward(self, x):
        return self.net(x)
"""


@pytest.fixture
def nets(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NETS)
    return f"{tmp_path / 'nets.py'}:Dropping"


def interrupted_after(steps: int) -> Any:
    """A track that stops the training as Ctrl-C does."""

    def track(items: Sequence[Any], label: str) -> Iterable[Any]:
        for i, item in enumerate(items):
            if i == steps:
                raise KeyboardInterrupt
            yield item

    return track


@pytest.mark.parametrize(
    ("source", "data", "more"),
    [
        ("own", "shapes:120", {"patience": 9}),  # dropout, momenta, both generators, the best epoch
        ("ssd_tiny", "shapes:60", {}),  # channels last: how tensors lie in memory decides the last bits
    ],
)
def test_the_same_bytes_as_without_the_interruption(
    source: str, data: str, more: dict[str, Any], nets: str, tmp_path: Path
) -> None:
    name = nets if source == "own" else source
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    first = train(name, data, whole, epochs=3, **more)
    steps = first.train_images // 16
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(name, data, broken, epochs=3, track=interrupted_after(steps + 1), **more)
    line = f"interrupted; {broken}.resume keeps the epochs that are done; go on with the same command and --resume"
    assert explain(stopped.value) == (130, line)
    assert not broken.exists()
    assert resume.place_of(broken).exists()
    with pytest.raises(KeyboardInterrupt):
        train(name, data, broken, epochs=3, resume=True, track=interrupted_after(steps), **more)
    second = train(name, data, broken, epochs=3, resume=True, **more)
    assert broken.read_bytes() == whole.read_bytes()
    assert (second.losses, second.validation) == (first.losses, first.validation)
    assert not resume.place_of(broken).exists()


def deflated(archive: bytes) -> bytes:
    """The same members, compressed: torch would read them, and 2 MB can claim 2 GiB."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as given, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name in given.namelist():
            made.writestr(name, given.read(name))
    return packed.getvalue()


def test_what_cannot_be_resumed(nets: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(BadInput, match=r"w.safetensors.resume: no such file, so nothing to resume; leave --resume out"):
        train(nets, "shapes:60", path, epochs=2, resume=True)
    with pytest.raises(KeyboardInterrupt):
        train(nets, "shapes:60", path, epochs=2, track=interrupted_after(4))
    with pytest.raises(BadInput, match=r"an interrupted training; go on with --resume, or begin anew with --force"):
        train(nets, "shapes:60", path, epochs=2)
    with pytest.raises(BadInput, match=r"was begun with epochs 2, not 4; give the same arguments, or --force anew"):
        train(nets, "shapes:60", path, epochs=4, resume=True)
    with pytest.raises(BadInput, match=r"was begun with data shapes:60, not shapes:90"):
        train(nets, "shapes:90", path, epochs=2, resume=True)
    kept = resume.place_of(path).read_bytes()
    for damaged in (kept[: len(kept) // 2], b"junk", pickle.dumps(print), deflated(kept)):
        resume.place_of(path).write_bytes(damaged)
        with pytest.raises(BadInput, match=r"w.safetensors.resume: is damaged; remove it and begin anew"):
            train(nets, "shapes:60", path, epochs=2, resume=True)
    train(nets, "shapes:60", path, epochs=2, force=True)
    assert not resume.place_of(path).exists()


def test_a_state_of_another_network_is_refused(nets: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(nets, "shapes:60", path, epochs=2, track=interrupted_after(4))
    held = torch.load(resume.place_of(path), weights_only=True)
    held["module"].pop("net.0.bias")
    torch.save(held, resume.place_of(path))
    with pytest.raises(BadInput, match="is damaged or of another network; begin anew with --force"):
        train(nets, "shapes:60", path, epochs=2, resume=True)


def test_a_failed_write_leaves_the_epoch_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written to a temporary name and renamed: an epoch is there whole or not at all."""
    path = tmp_path / "w.safetensors"
    resume.save(path, {"a": 1}, {"losses": [1.0]})
    monkeypatch.setattr("runtimes.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(BadInput, match="cannot be written"):
        resume.save(path, {"a": 1}, {"losses": [1.0, 2.0]})
    assert resume.load(path, {"a": 1})["losses"] == [1.0]
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors.resume"]


def test_nothing_is_promised_where_nothing_was_kept(nets: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(nets, "shapes:60", path, epochs=2, track=interrupted_after(1))
    assert explain(stopped.value) == (130, "interrupted; nothing half-written was left behind")
    assert list(tmp_path.glob("w.*")) == []
    resume.place_of(path).write_bytes(b"of a training before")
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(nets, "shapes:60", path, epochs=2, force=True, track=interrupted_after(1))
    assert explain(stopped.value)[1] == "interrupted; nothing half-written was left behind"
