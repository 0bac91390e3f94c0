"""Training reaches what it promises, gives the same bytes for the same arguments, and leaves no trace when it fails."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score

import edgecnn
from edgecnn.data.load import load_data
from edgecnn.networks.sources import resolve
from edgecnn.networks.spec import unit_range
from edgecnn.networks.weights import load_weights
from edgecnn.tasks import classification
from edgecnn.training.learning import reproducible
from edgecnn.training.train import train
from runtimes.base import BadInput

FIXTURES = Path(__file__).parent / "fixtures"

NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=5):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 14 * 14, num_classes)

    def forward(self, x):
        print("noise")
        x = self.conv(x)
        return self.fc(x.view(x.shape[0], -1))

def fixed():
    return Net(2)

def pair():
    return nn.Identity()

Net.input_shape = pair.input_shape = fixed.input_shape = (3, 16, 16)
"""


def top1(weights: Path, source: str) -> float:
    """Accuracy on the held-out digits, by scikit-learn and torch, without our evaluation."""
    network = resolve(source, weights)
    samples = load_data("digits", network.preprocess, split="test")
    with torch.no_grad():
        answers = network.module(torch.from_numpy(samples.stack())).argmax(1)
    return float(accuracy_score(samples.labels, answers))


# ------------------------------------------------------------------------------------------------------------ promises
# That resnet8_w32 learns the digits within the demo's budget is asked of the demo itself, in tests/test_readme.py.
def test_lenet5_learns_the_digits_in_under_a_minute(tmp_path: Path) -> None:
    start = time.process_time()
    report = train("lenet5", "digits", tmp_path / "w.safetensors")
    assert time.process_time() - start < 60
    assert report.test_score >= 0.97
    assert report.test_score == report.test_accuracy == top1(tmp_path / "w.safetensors", "lenet5")
    assert (report.train_images, report.test_images, report.classes) == (1438, 359, 10)
    assert len(report.losses) == report.epochs
    assert report.losses[-1] < report.losses[0]
    assert report.to_dict()["model"] == "lenet5"


@pytest.mark.parametrize(("name", "limit_bytes"), [("lenet5", 300_000), ("resnet8", 400_000)])
def test_the_committed_fixtures(name: str, limit_bytes: int) -> None:
    path = FIXTURES / f"{name}_digits.safetensors"
    assert path.stat().st_size < limit_bytes
    _, about = load_weights(path)
    assert about is not None
    assert top1(path, name) == about.test_score
    assert about.test_score >= 0.97


def test_the_weights_say_what_they_are_and_later_commands_need_no_flags(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    report = train("resnet8", "digits", path, epochs=1, seed=4)
    _, about = load_weights(path)
    assert about is not None
    assert (about.model, about.data, about.seed, about.edgecnn) == ("resnet8", "digits", 4, edgecnn.__version__)
    assert (about.num_classes, about.input_shape) == (10, (3, 32, 32))
    assert about.labels == tuple("0123456789")
    assert about.test_score == report.test_score
    assert resolve("resnet8", path).preprocess == about.preprocess == unit_range(32, 32)


# ----------------------------------------------------------------------------------------------------- reproducibility
def test_same_arguments_same_bytes_whatever_the_caller_did_before(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    train("lenet5", "digits", paths[0], epochs=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    torch.manual_seed(99)
    np.random.seed(99)
    try:
        state = torch.get_rng_state()
        train("lenet5", "digits", paths[1], epochs=1)
        assert torch.get_num_threads() == threads + 1
        assert torch.equal(torch.get_rng_state(), state)
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(threads)
    with reproducible(0):
        assert torch.are_deterministic_algorithms_enabled()
    train("lenet5", "digits", paths[2], epochs=1, seed=1)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes() != paths[2].read_bytes()


def test_progress_goes_through_track_step_by_step(tmp_path: Path) -> None:
    seen = []

    def track(items: Sequence[Any], label: str) -> Iterable[Any]:
        for item in items:
            seen.append((label, len(items)))
            yield item

    train("lenet5", "digits", tmp_path / "w.safetensors", epochs=1, track=track)
    assert seen == [("training", 89)] * 89  # 1,438 // 16


# ------------------------------------------------------------------------------------------------------------- own data
@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """24 pictures in two classes that a straight line can part: dark and bright."""
    rng = np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / "photos" / ("dark", "bright")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 100, (20, 20, 3), np.uint8) + np.uint8(150 * (i % 2))).save(path)
    return tmp_path / "photos"


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path / "nets.py"


@pytest.mark.parametrize("name", ["Net", "fixed"])
def test_an_own_network_on_own_images(
    photos: Path, nets: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"{nets}:{name}"
    report = train(source, str(photos), tmp_path / "w.safetensors", epochs=8)
    assert report.test_score == 1.0
    assert report.classes == 2
    assert capsys.readouterr().out == ""
    network = resolve(source, tmp_path / "w.safetensors")
    assert network.labels == ("bright", "dark")
    samples = load_data(photos, network.preprocess)

    def run(feeds: Any) -> Any:
        with torch.no_grad():
            return {"y": network.module(torch.from_numpy(feeds["x"])).numpy()}

    assert classification.score(run, samples, "x").value == 1.0


# --------------------------------------------------------------------------------------------------------------- errors
def refused(tmp_path: Path, match: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(BadInput, match=match):
        train(*args, tmp_path / "w.safetensors", **kwargs)
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".safetensors", ".tmp")]


def test_divergence_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    refused(
        tmp_path, r"diverged in step \d+ of 89 at rate 1e\+20; try a rate of", "lenet5", "digits", rate=1e20, epochs=1
    )


def test_data_without_classes(tmp_path: Path) -> None:
    refused(tmp_path, "random: has no classes to learn", "lenet5", "random")
    np.savez(tmp_path / "one.npz", x=np.zeros((4, 9, 9), np.uint8), y=np.zeros(4, int))
    refused(tmp_path, "has no classes to learn", "lenet5", str(tmp_path / "one.npz"))


def test_networks_that_do_not_answer_with_these_classes(tmp_path: Path, nets: Path) -> None:
    refused(tmp_path, r"answers \[1, 12\], but digits has 10 classes", "lenet5", "digits", num_classes=12)
    refused(tmp_path, r"answers \[1, 2\], but digits has 10 classes", f"{nets}:fixed", "digits")
    refused(tmp_path, r"answers \[1, 3, 16, 16\], but digits has 10", f"{nets}:pair", "digits")


def test_unknown_names_and_senseless_numbers(tmp_path: Path) -> None:
    refused(tmp_path, "lenet6: unknown network; did you mean lenet5", "lenet6", "digits")
    refused(tmp_path, "digit: unknown data; did you mean digits", "lenet5", "digit")
    refused(tmp_path, "0 epochs", "lenet5", "digits", epochs=0)
    refused(tmp_path, "rate nan", "lenet5", "digits", rate=float("nan"))
    refused(tmp_path, "does not run on", "lenet5", "digits", input_shape="1,64,64")


def test_an_existing_output_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"precious")
    monkeypatch.setattr("edgecnn.training.train.blueprint", lambda name: pytest.fail("worked"))
    with pytest.raises(BadInput, match="exists already"):
        train("lenet5", "digits", path)
    assert path.read_bytes() == b"precious"
