"""SSIM against its definition written as loops, PSNR, what the size of a target may be, and the whole road."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from edgecnn import api, doubts
from edgecnn.choosing.model_identity import judged_as, of_unused
from edgecnn.data.data_argument import InMemory
from edgecnn.data.load import load_data
from edgecnn.data.material import Material
from edgecnn.data.samples import Samples
from edgecnn.networks.sources import resolve
from edgecnn.road import named
from edgecnn.tasks import image
from runtimes.base import Array, BadInput, Tensors
from runtimes.imaging.answered import in_own_size
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import TensorInfo

SIDE = 16
READY = Preprocess((SIDE, SIDE))
RNG = np.random.default_rng(0)


def by_definition(x: Array, y: Array) -> float:
    """SSIM of two planes, a window after another, with weighted moments about the mean as the paper has them."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(taps, taps) / np.outer(taps, taps).sum()
    found = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = (plane[row : row + 11, column : column + 11] for plane in (x, y))
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            both = (weights * (a - ma) * (b - mb)).sum()
            c1, c2 = 0.0001, 0.0009
            found.append((2 * ma * mb + c1) * (2 * both + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(found))


def test_ssim_is_what_the_paper_defines() -> None:
    x = RNG.random((17, 14, 3))
    y = np.clip(x + 0.2 * RNG.standard_normal(x.shape), 0, 1)
    wanted = np.mean([by_definition(x[:, :, i], y[:, :, i]) for i in range(3)])
    assert image.ssim(x, y) == pytest.approx(wanted, abs=1e-12)
    assert image.ssim(x, x) == 1
    assert image.ssim(x[:3, :2], y[:3, :2]) < 1  # smaller than the window


def samples_of(y: Array, ready: Preprocess = READY) -> Samples:
    x = RNG.integers(0, 256, (len(y), SIDE, SIDE, 3), np.uint8)
    return load_data((x, y), ready, task="image", as_truth=True)


def answering(y: Array) -> Callable[[Tensors], dict[str, Array]]:
    """A network that answers rows of `y` in turn."""
    place = 0

    def run(feeds: Tensors) -> dict[str, Array]:
        nonlocal place
        place += len(feeds["x"])
        return {"out": y[place - len(feeds["x"]) : place]}

    return run


def test_score_is_the_mean_of_pictures_and_psnr_stands_beside() -> None:
    y = RNG.integers(0, 256, (5, 32, 32, 3), np.uint8)
    given = (y.transpose(0, 3, 1, 2) / 255 + 0.1 * RNG.standard_normal((5, 3, 32, 32))).astype(np.float32)
    given[4] = np.nan
    found = image.score(answering(given), samples_of(y), "x", batch=2)
    levels = np.clip(given.transpose(0, 2, 3, 1), 0, 1)
    each = [image.ssim(levels[i], y[i] / 255) for i in range(4)] + [0]
    decibels = [-10 * np.log10(np.mean((levels[i] - y[i] / 255) ** 2)) for i in range(4)] + [0]
    assert found.per_sample == pytest.approx(each, abs=1e-6)
    assert found.value == pytest.approx(np.mean(each), abs=1e-6)
    assert found.details["psnr_db"] == pytest.approx(np.mean(decibels), abs=1e-4)


def test_a_target_of_another_size_is_refused_and_padding_is_not() -> None:
    y = RNG.integers(0, 256, (2, 30, 29, 3), np.uint8)
    given = np.zeros((2, 3, 32, 32), np.float32)
    with pytest.raises(BadInput, match=r"its target is 29x30, the answer to 16x16, which it is made, is 32x32; cut"):
        image.score(answering(given), samples_of(y), "x")
    own = in_own_size(READY, 4)
    x = [np.zeros((15, 15, 3), np.uint8)] * 2  # made 16x16, answered twice as large, and 1 and 1.5 of these are padding
    padded = load_data((np.stack(x), y), own, task="image", as_truth=True)
    assert image.score(answering(given), padded, "x", batch=1).images == 2
    beyond = samples_of(RNG.integers(0, 256, (2, 20, 20, 3), np.uint8), own)
    with pytest.raises(BadInput, match="its target is 20x20"):
        image.score(answering(given), beyond, "x", batch=1)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (("N", 3, 32, 32), ""),
        (("N", 1, "h", "w"), ""),
        (("N", 32, 32, 3), ""),
        (("N", 2, 32, 32), "no picture"),
        (("N", 3, 64, 64), "the first is 32x32"),
    ],
)
def test_whether_pictures_are_for_an_answer(shape: tuple[object, ...], why: str) -> None:
    samples = samples_of(RNG.integers(0, 256, (2, 32, 32, 3), np.uint8))
    found = image.why_not(samples, shape)
    assert why in found
    assert bool(found) == bool(why)


def test_loss_and_its_targets_are_in_the_numbers_of_the_network() -> None:
    signed = Preprocess((SIDE, SIDE), mean=(0.5,), std=(0.5,))
    samples = samples_of(RNG.integers(0, 256, (3, SIDE, SIDE, 3), np.uint8), signed)
    assert samples.pictures is not None
    images, wanted = torch.from_numpy(samples.stack()), image.answers(samples, np.arange(3))
    truth = torch.from_numpy(np.stack(list(samples.pictures)).transpose(0, 3, 1, 2) / 127.5 - 1)
    difference = (images - truth).abs().mean() / 2
    assert image.loss(nn.Identity(), images, wanted, 0.1).item() == pytest.approx(difference.item(), rel=1e-5)
    moved, mirrored = image.augment(images.numpy(), wanted, np.random.default_rng(0), flip=True)
    chosen = [not np.array_equal(a, b) for a, b in zip(moved, images.numpy(), strict=True)]
    assert any(chosen)
    for i, turned in enumerate(chosen):
        assert np.array_equal(mirrored.levels[i], wanted.levels[i][:, ::-1] if turned else wanted.levels[i])


# ------------------------------------------------------------------------------------------------------------- the road
class Enlarge(nn.Module):
    """Twice as large by a convolution, through a map of half the size: heights and widths in steps of two."""

    input_shape = (3, SIDE, SIDE)
    preprocess = "unit"
    task = "image"

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.up = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.PixelShuffle(2))
        self.last = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        enlarged: torch.Tensor = nn.functional.interpolate(x, scale_factor=2.0)
        return enlarged + 0.1 * self.last(torch.cat([x, self.up(self.down(x).relu())], 1))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("image")
    smooth = np.kron(RNG.integers(0, 256, (20, 8, 8, 3)), np.ones((1, 4, 4, 1))).astype(np.uint8)  # 32x32
    calib, pairs = smooth[:12, ::2, ::2], (smooth[12:, ::2, ::2], smooth[12:])
    built = api.build(
        Enlarge(), place / "x.edge", calib=calib, data=pairs, dynamic_size=True, search_budget=0, allow_slower=True
    )
    assert "SSIM" in built.verdict
    assert built.judged_on == "8 labelled images of data array"
    return place / "x.edge"


def test_a_bundle_answers_with_pictures_of_any_size(bundle: Path, tmp_path: Path) -> None:
    for size in ((15, 22), (SIDE, SIDE)):
        photo = RNG.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(photo).save(tmp_path / "photo.png")
        report = api.run(bundle, [tmp_path / "photo.png", photo])
        for found in report.pictures:
            assert found.picture.shape == (2 * size[0], 2 * size[1], 3)
            assert np.abs(found.picture[::2, ::2].astype(int) - photo).mean() < 40
        assert np.array_equal(report.pictures[0].picture, report.pictures[1].picture)
    with pytest.raises(BadInput, match=r"answers with pictures, not with masks; read `\.pictures`"):
        _ = report.masks
    fixed = api.run(bundle, tmp_path / "photo.png", input_shape="3,32,48")
    assert fixed.pictures[0].picture.shape == (64, 96, 3)


def test_the_device_program_saves_the_same_picture(bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (15, 22, 3), np.uint8)).save(tmp_path / "photo.png")
    (ours,) = api.run(bundle, tmp_path / "photo.png", save=tmp_path / "ours").pictures
    command = [sys.executable, str(bundle), "run", "photo.png", "--save", "theirs", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    (told,) = json.loads(done.stdout)["predictions"]
    assert told == {"input": "photo.png", "picture": {"shape": [30, 44, 3]}, "files": ["theirs/photo.answer.png"]}
    assert ours.files == (str(tmp_path / "ours/photo.answer.png"),)
    for file in (ours.files[0], tmp_path / "theirs/photo.answer.png"):
        assert np.array_equal(np.asarray(Image.open(file)), ours.picture)
    about = subprocess.run([sys.executable, str(bundle)], capture_output=True, text=True, check=True, timeout=120)
    assert "a picture" in about.stdout


def test_evaluate_shows_each_picture_in_its_own_size(bundle: Path, tmp_path: Path) -> None:
    for i, (height, width) in enumerate([(15, 22), (16, 16), (21, 9)]):
        photo = RNG.integers(0, 256, (height, width, 3), np.uint8)
        for kind, shown in (("images", photo), ("targets", photo.repeat(2, 0).repeat(2, 1))):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(shown).save(tmp_path / kind / f"{i}.png")
    report = api.evaluate(bundle, data=tmp_path)
    assert (report.metric, report.images) == ("SSIM", 3)
    assert 0 < report.models[0][1].value < 1
    assert report.models[0][1].details["psnr_db"] > 10
    with pytest.raises(BadInput, match="its target is"):
        api.evaluate(bundle, data=tmp_path, input_shape="1,3,16,16")


def test_a_report_shows_both_pictures(bundle: Path, tmp_path: Path) -> None:
    api.report(bundle, tmp_path / "page.html")
    assert "PSNR of the two answers" in (tmp_path / "page.html").read_text("utf-8")


def test_a_plain_file_is_told_its_task(bundle: Path, tmp_path: Path) -> None:
    plain = api.export(Enlarge(), tmp_path / "plain.onnx").output
    model = onnx.load(plain)
    del model.metadata_props[:]
    onnx.save(model, plain)
    photos = RNG.integers(0, 256, (9, SIDE, SIDE, 3), np.uint8)
    int8 = api.quantize(
        plain, tmp_path / "q.edge", photos, task="image", preprocess="unit", search_budget=0, allow_slower=True
    )
    assert "like the float graph's (SSIM)" in int8.verdict
    assert api.run(tmp_path / "q.edge", photos[0]).pictures[0].picture.shape == (2 * SIDE, 2 * SIDE, 3)


def test_an_answer_that_is_no_picture_stays_numbers() -> None:
    class Chroma(nn.Conv2d):
        input_shape, preprocess, task = (3, 8, 8), "unit", "image"

        def __init__(self) -> None:
            super().__init__(3, 2, 1)

    report = api.inspect(Chroma())
    assert any(
        "its task image is not used: it answers with (N, 2, 8, 8), and pictures are" in w for w in report.warnings
    )


def test_it_learns(tmp_path: Path) -> None:
    x = np.kron(RNG.integers(0, 256, (24, 4, 4, 3)), np.ones((1, 4, 4, 1))).astype(np.uint8)
    np.savez(tmp_path / "inverse.npz", x=x, y=255 - x)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Conv2d):\n"
        f"    input_shape, preprocess, task = (3, {SIDE}, {SIDE}), 'signed', 'image'\n"
        "    def __init__(self):\n        super().__init__(3, 3, 1)\n"
    )
    report = api.train(f"{tmp_path}/nets.py:Net", tmp_path / "inverse.npz", tmp_path / "w.safetensors", epochs=80)
    assert report.metric == "SSIM"
    assert report.test_score > 0.9


def test_targets_for_a_model_without_a_task_are_named(bundle: Path, tmp_path: Path) -> None:
    plain = api.export(Enlarge(), tmp_path / "plain.onnx").output
    model = onnx.load(plain)
    del model.metadata_props[:]
    onnx.save(model, plain)
    for kind in ("images", "targets"):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (SIDE, SIDE)).save(tmp_path / kind / "0.png")
    with pytest.raises(BadInput, match="its targets are read with --task image"):
        api.evaluate(plain, data=tmp_path)


def test_pictures_that_lose_their_size_are_told(tmp_path: Path) -> None:
    photos = RNG.integers(0, 256, (9, 24, 20, 3), np.uint8)
    network = resolve(Enlarge())
    lines = [named(network, InMemory("photos", photos), None, pictures=open_size)[1] for open_size in (False, True)]
    told = "Enlarge: pictures, as one of 20x24, are made 16x16, here and in `run`; --dynamic-size shows it "
    assert [any(told in line for line in said) for said in lines] == [True, False]
    for kind, side in (("images", SIDE), ("targets", 2 * SIDE)):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (side, side)).save(tmp_path / kind / "0.png")
    assert doubts.of_stretched(network, InMemory("photos", photos[:, :SIDE, :SIDE]), str(tmp_path)) == ""
    assert doubts.of_stretched(replace(network, task="regression"), InMemory("photos", photos)) == ""


def test_only_without_the_task_it_is_a_way_to_use_targets() -> None:
    outputs, y = [TensorInfo("out", "float32", ("N", 3, 64, 64))], RNG.integers(0, 256, (2, 32, 32, 3), np.uint8)
    material = Material("x", READY, samples_of(y), samples_of(y))
    lines = [of_unused("net", judged_as(task, material, outputs), outputs) for task in ("image", "other")]
    assert (
        "cannot be used: they are pictures, and the first is 32x32, and the network answers (N, 3, 64, 64)" in lines[0]
    )
    assert ["--task image, judges by them" in line for line in lines] == [False, True]


@pytest.mark.parametrize(
    ("ending", "ready", "said"),
    [
        ("Tanh", READY, "ends in a Tanh, which makes -1 to 1, and 0 and 1 are taken for black and white"),
        ("Sigmoid", None, "ends in a Sigmoid, which makes 0 to 1, and -1 and 1 are taken for black and white"),
        ("Sigmoid", READY, ""),
        ("Tanh", None, ""),
        ("Conv", READY, ""),
        ("Tanh", replace(READY, answer_range=(0.0, 1.0)), ""),
    ],
)
def test_an_ending_that_makes_other_numbers_is_told(ending: str, ready: Preprocess | None, said: str) -> None:
    line = doubts.of_shades("net", "image", ending, ready)
    assert said in line
    assert bool(line) == bool(said)
    assert doubts.of_shades("net", "regression", ending, ready) == ""


def test_build_and_quantize_tell_it(tmp_path: Path) -> None:
    class Signed(Enlarge):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).tanh()

    photos = InMemory("photos", RNG.integers(0, 256, (9, SIDE, SIDE, 3), np.uint8))
    _, heard = named(resolve(Signed()), photos, None)
    plain = api.export(Signed(), tmp_path / "tanh.onnx").output
    int8 = api.quantize(plain, tmp_path / "q.onnx", photos.images, search_budget=0, allow_slower=True)
    for lines in (heard, int8.warnings):
        assert any("ends in a Tanh, which makes -1 to 1" in line for line in lines)
