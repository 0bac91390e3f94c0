"""A network that was trained already is tuned with care, judged before and after, and never comes back worse."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from edgecnn.cli import main
from edgecnn.data.samples import Samples
from edgecnn.networks.sources import resolve
from edgecnn.networks.spec import unit_range
from edgecnn.networks.weights import load_weights
from edgecnn.training import resume as resuming
from edgecnn.training.guard import MOST_JUDGED, Change, guarded, some_of
from edgecnn.training.train import train
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess

NETS = """
from torch import nn

def block(i, o, stride):
    return [nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

class Net(nn.Module):
    input_shape = (1, 8, 8)
    preprocess = dict(size=[8, 8], channels=1)

    def __init__(self, num_classes=10):
        super().__init__()
        self.layers = nn.Sequential(*block(1, 16, 1), *block(16, 24, 2), *block(24, 32, 1), nn.AdaptiveAvgPool2d(1),
                                    nn.Flatten(), nn.Linear(32, num_classes))

    def forward(self, x):
        return self.layers(x)

class Silent(Net):
    input_shape = preprocess = None
"""
UNIT = Preprocess(size=(8, 8), channels=1)
COUNT = 300


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nets.py, 8 x 8 digits in digits.npz, and weights that torch alone has trained on a part of them, in w.pt."""
    folder = tmp_path_factory.mktemp("fine")
    (folder / "nets.py").write_text(NETS)
    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images[:COUNT].reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8)
    np.savez(folder / "digits.npz", x=pixels, y=labels[:COUNT])
    module = resolve(f"{folder / 'nets.py'}:Net").module.train()
    x, y = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / np.float32(255)), torch.from_numpy(labels[:COUNT])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(module.parameters(), 1e-2)
        for picked in (part for _ in range(7) for part in torch.randperm(COUNT).split(32)):
            loss = nn.functional.cross_entropy(module(x[picked]), y[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(module.state_dict(), folder / "w.pt")
    return folder


def tuned(place: Path, output: Path, name: str = "Net", **options: Any) -> Any:
    given = {"weights": place / "w.pt", "epochs": 1, **options}
    return train(f"{place / 'nets.py'}:{name}", str(place / "digits.npz"), output, **given)


def same_weights(first: Path, second: Path) -> bool:
    a, b = load_weights(first)[0], load_weights(second)[0]
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# --------------------------------------------------------------------------------------------------------- with int8
@pytest.mark.parametrize("epochs", [1, 5])
def test_qat_keeps_a_trained_network_good_at_its_own_rate(place: Path, tmp_path: Path, epochs: int) -> None:
    report = tuned(place, tmp_path / "w.safetensors", qat=True, epochs=epochs)
    assert (report.epochs, report.best_epoch) == (epochs, epochs)
    assert report.start_score > 0.9
    assert report.test_score >= report.start_score - 0.02
    assert not report.judged.worse
    assert (report.judged.images, report.judged.kinds, report.judged.int8) == (240, "training images", True)
    assert report.warnings == ()
    assert f"goes from {report.start_score:.2%} to {report.test_score:.2%} in top-1 on 60" in report.verdict
    assert not same_weights(place / "w.pt", tmp_path / "w.safetensors")


def test_qat_keeps_a_network_of_small_weights_whose_norms_make_it_steep(place: Path, tmp_path: Path) -> None:
    """The same function with convolutions c times as large, and norms that divide by it: slopes grow by 1 / c."""
    state, c = torch.load(place / "w.pt", weights_only=True), 0.15
    for key in state:
        if key.endswith("running_var"):
            norm = key.removesuffix("running_var")
            convolution = f"layers.{int(norm.split('.')[1]) - 1}.weight"
            state[convolution] *= c
            state[f"{norm}running_mean"] *= c
            state[key] *= c * c
    torch.save(state, tmp_path / "small.pt")
    report = tuned(place, tmp_path / "w.safetensors", weights=tmp_path / "small.pt", qat=True)
    assert report.start_score > 0.9
    assert report.best_epoch == 1
    assert report.warnings == ()


@pytest.mark.parametrize("qat", [True, False])
@pytest.mark.parametrize("patience", [None, 2])
def test_a_rate_that_ruins_it_leaves_the_weights_as_they_came(
    place: Path, tmp_path: Path, qat: bool, patience: int | None
) -> None:
    rate = 0.2 if qat else 4.0
    report = tuned(place, tmp_path / "w.safetensors", qat=qat, rate=rate, patience=patience)
    assert report.judged.after < report.judged.before - 0.1
    assert report.judged.kinds == ("training images" if patience is None else "held-back images")
    assert same_weights(place / "w.pt", tmp_path / "w.safetensors")
    assert (report.test_score, report.best_epoch) == (report.start_score, 0)
    (line,) = report.warnings
    assert f"fell from {report.judged.before:.2%} to {report.judged.after:.2%} at rate {rate:g}" in line
    assert line.endswith(f"the weights from the start are kept; try --rate {rate / 10:g}")
    assert ("int8 simulated" in line) == qat
    assert f"stays at top-1 {report.start_score:.2%}" in report.verdict


def test_infinite_answers_are_divergence_and_no_crash(place: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"diverged in step \d+ of 30 at rate 1e\+30"):
        tuned(place, tmp_path / "w.safetensors", qat=True, rate=1e30, epochs=2)
    assert not (tmp_path / "w.safetensors").exists()


def test_random_weights_have_no_start(place: Path, tmp_path: Path) -> None:
    report = tuned(place, tmp_path / "w.safetensors", weights=None)
    assert (report.start_score, report.judged, report.to_dict()["judged"]) == (None, None, None)
    assert "reaches top-1" in report.verdict


# ------------------------------------------------------------------------------------------------------ without int8
def test_going_on_is_told_and_interrupted_ends_in_the_same_bytes(place: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    first = tuned(place, whole, epochs=2, rate=0.01)
    assert first.judged.after >= first.judged.before

    def stop(items: Sequence[Any], label: str) -> Iterable[Any]:
        yield from items[:16]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(place, broken, epochs=2, rate=0.01, track=stop)
    assert resuming.place_of(broken).exists()
    second = tuned(place, broken, epochs=2, rate=0.01, resume=True)
    assert broken.read_bytes() == whole.read_bytes()
    assert (second.judged, second.start_score) == (first.judged, first.start_score)


@pytest.mark.parametrize(
    ("scores", "held", "kept"),
    [
        ([0.5, 0.48], False, 1.0),
        ([0.5, 0.495], False, 2.0),  # less than a point of images that are known by heart
        ([0.5, 0.495], True, 1.0),
        ([0.5, 0.5], True, 2.0),
        ([0.5, 0.6], False, 2.0),
        ([0.5, float("nan")], True, 1.0),
    ],
)
def test_the_better_of_the_two_stays(scores: list[float], held: bool, kept: float) -> None:
    module, left = nn.Linear(1, 1).train(), list(scores)
    nn.init.constant_(module.weight, 1.0)
    task: Any = SimpleNamespace(OUTPUTS=("y",), score=lambda *_: SimpleNamespace(value=left.pop(0)))
    made, change = guarded(
        module, task, samples(3), samples(2) if held else None, False, lambda: nn.init.constant_(module.weight, 2.0)
    )
    assert made is module.weight
    assert (change.images, change.kinds) == ((2, "held-back images") if held else (3, "training images"))
    assert change.worse == (kept == 1.0)
    assert float(module.weight.detach()) == kept
    assert module.training


def samples(count: int) -> Samples:
    return Samples("made", tuple(map(str, range(count))), lambda i: np.full((1, 2, 2), i, np.float32), np.arange(count))


def test_many_images_are_judged_by_some_of_all() -> None:
    picked = some_of(samples(2 * MOST_JUDGED)).labels
    assert picked is not None
    assert (len(picked), picked[0], picked[-1], len(set(picked.tolist()))) == (1000, 0, 1999, 1000)
    assert len(some_of(samples(7))) == 7


def test_a_fall_that_only_the_held_out_images_show_is_told() -> None:
    change = Change(0.9, 0.95, 320, "training images", False)
    line = change.warning_of_test("n", "top-1", 0.9, 0.8, 0.2)
    assert line.startswith("n: top-1 on held-out images fell from 90.00% to 80.00%, though not on 320 training images")
    assert change.warning_of_test("n", "top-1", 0.9, 0.895, 0.2) == ""  # less than a point
    assert Change(0.9, 0.5, 320, "training images", False).warning_of_test("n", "top-1", 0.9, 0.8, 0.2) == ""


# ---------------------------------------------------------------------------------------------------- pixels and size
def test_preprocess_is_what_the_user_says(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    report = tuned(place, path, "Silent", input_shape="1,8,8", preprocess="unit", qat=True)
    about = load_weights(path)[1]
    assert about is not None
    assert about.preprocess == UNIT
    assert report.start_score > 0.9
    assert report.warnings == ()
    signed = tuned(place, tmp_path / "s.safetensors", preprocess="signed", weights=None)
    assert resolve(f"{place / 'nets.py'}:Net", tmp_path / "s.safetensors").preprocess == unit_range(8, 8, 1)
    assert signed.warnings == ()


def test_weights_that_know_their_pixels_are_trained_on_with_these(place: Path, tmp_path: Path) -> None:
    tuned(place, tmp_path / "first.safetensors", qat=True)
    report = tuned(place, tmp_path / "w.safetensors", "Silent", weights=tmp_path / "first.safetensors", qat=True)
    assert report.warnings == ()
    assert load_weights(tmp_path / "w.safetensors")[1].preprocess == UNIT  # type: ignore[union-attr]


def test_pixels_that_cannot_be_trained_on_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text('{"input": "uint8"}')
    with pytest.raises(BadInput, match="training is of float32"):
        tuned(place, tmp_path / "w.safetensors", preprocess=str(tmp_path / "last.json"))
    with pytest.raises(BadInput, match="--preprocess imagenet: is for RGB"):
        tuned(place, tmp_path / "w.safetensors", preprocess="imagenet")


def test_an_assumed_size_is_told_before_the_work_begins(place: Path, tmp_path: Path) -> None:
    heard: list[str] = []

    class Begun(Exception):
        pass

    def track(items: Sequence[Any], label: str) -> Iterable[Any]:
        raise Begun
        yield

    with pytest.raises(Begun):
        tuned(place, tmp_path / "w.safetensors", "Silent", weights=None, track=track, tell=heard.append)
    (line,) = heard
    assert "says neither its input size nor its preprocessing: 1x224x224 and x/127.5 - 1 are assumed" in line
    assert line.endswith("though all the pictures given are 8x8; --input-shape 1,8,8 and --preprocess say otherwise")


def test_the_command_line_says_it_once_and_in_json(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", f"{place / 'nets.py'}:Silent", "--data", str(place / "digits.npz"), "--input-shape", "1,8,8"]
    given = ["--epochs", "1", "--weights", str(place / "w.pt"), "--rate", "4", "--json"]
    assert main([*command, *given, "-o", str(tmp_path / "w.safetensors")]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert [f"warning: {line}" for line in document["warnings"]] == [x for x in err.splitlines() if x[:4] == "warn"]
    assert [("x/127.5 - 1 is assumed" in line, "are kept" in line) for line in document["warnings"]] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert document["judged"]["kept_start"] is True
    assert document["start_score"] == document["test_score"]
    assert main([*command, *given[:-1], "--preprocess", "unit", "-o", str(tmp_path / "v.safetensors")]) == 0
    out, err = capsys.readouterr()
    assert "assumed" not in err
    assert "240 training images" in out


def test_inspect_says_what_size_it_assumed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"{place / 'nets.py'}:Silent"
    line = f"{source}: does not say its input size: 1x224x224 is assumed; --input-shape C,H,W says otherwise"
    assert main(["inspect", source, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["warnings"] == [line]
    assert f"warning: {line}\n" in err
    assert main(["inspect", source, "--input-shape", "1,8,8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []
