"""PCK and NME against their definitions, what truth is read, what int8 is held to without it, and the whole road."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from edgecnn import api, doubts
from edgecnn.cli import main
from edgecnn.data.load import load_data
from edgecnn.data.samples import Samples
from edgecnn.networks.chosen_output import chosen
from edgecnn.tasks import keypoints
from runtimes.base import Array, BadInput, Tensors
from runtimes.imaging.preprocess import Preprocess

SIDE, CORNERS = 32, ("red", "green", "blue")
READY = Preprocess((SIDE, SIDE))
RNG = np.random.default_rng(0)


def samples_of(y: Array, ready: Preprocess = READY, size: tuple[int, int] = (64, 96)) -> Samples:
    """Pictures of `size` (H, W) with the truth `y`."""
    x = RNG.integers(0, 256, (len(y), *size, 3), np.uint8)
    return load_data((x, y), ready, task="keypoints", as_truth=True)


def answering(y: Array) -> Callable[[Tensors], dict[str, Array]]:
    """A network that answers rows of `y` in turn."""
    place = 0

    def run(feeds: Tensors) -> dict[str, Array]:
        nonlocal place
        place += len(feeds["x"])
        return {"out": y[place - len(feeds["x"]) : place]}

    return run


def test_pck_and_nme_are_as_defined_in_pixels_of_the_picture() -> None:
    y = RNG.uniform([5, 5], [90, 60], (6, 4, 2))
    found = y + RNG.normal(0, 3, y.shape)
    shares = (found / [96, 64]).astype(np.float32)
    shares[5, 2] = np.nan
    score = keypoints.score(answering(shares.reshape(6, 8)), samples_of(y), "x", batch=4)
    each = np.zeros((6, 4))
    for i in range(6):
        size = max(np.ptp(y[i, :, 0]), np.ptp(y[i, :, 1]))
        for k in range(4):
            each[i, k] = np.hypot(*(found[i, k] - y[i, k])) / size
    each[5, 2] = 1
    near = np.mean([each <= t / 100 for t in range(1, 11)], axis=0)
    assert score.value == pytest.approx(near.mean(), abs=1e-6)
    assert score.per_sample == pytest.approx(near.mean(axis=1), abs=1e-6)
    assert score.details["nme"] == pytest.approx(each.mean(), abs=1e-5)
    assert score.details["pck_10"] == pytest.approx((each <= 0.1).mean())
    assert score.details["pck"] == pytest.approx({str(k): near[:, k].mean() for k in range(4)})
    assert score.resample(np.array([[2, 0, 0, 0, 0, 1]]))[0] == pytest.approx((2 * near[0] + near[5]).mean() / 3)


@pytest.mark.parametrize("rows", [False, True])
def test_points_that_are_not_known_or_not_shown_do_not_count(rows: bool) -> None:
    crop = Preprocess((SIDE, SIDE), resize=SIDE)  # the middle 64x64 of 64x96: x from 16 to 80
    y = np.array([[[20, 30, 2], [60, 50, 1], [70, 10, 0], [3, 3, 2]]], np.float64)
    good = (y[:, :, :2] - [16, 0]) / 64
    good[:, 2:] = 0.5  # neither of them counts
    given = y.reshape(1, -1) if rows else y
    score = keypoints.score(answering(good.astype(np.float32)), samples_of(given, crop), "x")
    assert (score.value, score.details["pck"]["2"], score.details["pck"]["3"]) == (1, None, None)
    assert score.details["nme"] == pytest.approx(0, abs=1e-6)
    hidden = y * [1, 1, 0]
    with pytest.raises(BadInput, match="has no point that is known and that the network sees"):
        keypoints.score(answering(good.astype(np.float32)), samples_of(hidden, crop), "x")


def test_one_point_is_held_to_the_picture() -> None:
    y = np.array([[48.0, 32.0]] * 2)
    off = np.float32([[48.0 + 0.045 * 96, 32.0], [48, 32]]) / np.float32([96, 64])
    score = keypoints.score(answering(off), samples_of(y), "x")
    assert score.per_sample.tolist() == pytest.approx([0.6, 1])
    assert "pck" not in score.details


@pytest.mark.parametrize(
    ("y", "shape", "why"),
    [
        (np.zeros((3, 4, 2)), ("N", 4, 8, 8), ""),
        (np.zeros((3, 8)), ("N", 4, "h", "w"), ""),
        (np.zeros((3, 12)), ("N", 8), ""),
        (np.zeros((3, 4, 3)), ("N", 4, 2), ""),
        (np.zeros((3, 8)), ("N", "k"), ""),
        (np.zeros((3, 4, 2)), ("N", 5, 8, 8), "and the network answers 5 points"),
        (np.zeros((3, 4, 3)), ("N", 12), "and the network answers 6 points"),
        (np.zeros((3, 8)), ("N", 7), "no points"),
        (np.zeros((3, 7)), (), r"points are (N, K, 2)"),
        (np.ones((3, 4), bool), (), r"points are (N, K, 2)"),
        (np.full((3, 2, 2), np.nan), (), "says that it is not known"),
    ],
)
def test_what_is_truth(y: Array, shape: Sequence[object], why: str) -> None:
    found = keypoints.why_not(samples_of(y), shape)
    assert why in found
    assert bool(found) == bool(why)


def heatmaps(places: Array, side: int = 16, moved: float = 0.0) -> Array:
    """float32 (n, K, side, side) with a Gaussian at each of `places` (n, K, 2), in cells, all `moved` to the right."""
    rows, columns = np.mgrid[:side, :side]
    x, y = places[..., :1, None] + moved, places[..., 1:, None]
    return np.asarray(np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2)), np.float32)


def test_without_truth_points_that_move_are_seen_and_half_a_cell_is_none() -> None:
    places = RNG.uniform(2, 13, (40, 5, 2))
    base, feeds = heatmaps(places), samples_of(np.zeros((40, 5, 2)), size=(SIDE, SIDE)).feeds("x", 8)
    lost = {}
    for moved in (0.02, 1.0, 3.0):
        other = heatmaps(places, moved=moved)
        assert np.abs(other - base).max() > 0
        found = keypoints.agreement(answering(base), answering(other), feeds)
        assert found.images == 40
        lost[moved] = found.lost
    assert lost[0.02] == 0
    assert 0.01 < lost[1.0] < lost[3.0]
    broken = base.copy()
    broken[0, 0] = np.nan
    assert keypoints.agreement(answering(base), answering(broken), feeds).lost == pytest.approx(1 / 200)
    with pytest.raises(BadInput, match="points of as many are needed"):
        keypoints.agreement(answering(base), answering(base[:, :3]), feeds)


def test_one_tolerance_lets_pass_what_several_see() -> None:
    y = np.array([[[10, 10], [80, 10], [10, 60], [80, 60]]] * 4, np.float64)  # 70 pixels: 0.1 is 7 of them
    values = []
    for off in (0.5, 5.0):
        shares = ((y + np.array([off, 0])) / [96, 64]).astype(np.float32)
        score = keypoints.score(answering(shares), samples_of(y), "x")
        values.append((score.value, score.details["pck_10"]))
    assert values == [(1, 1), (pytest.approx(0.3), 1)]


# ------------------------------------------------------------------------------------------------------------- the data
def triangles(folder: Path, count: int, seed: int) -> Path:
    """Pictures of several sizes with three dots, red, green and blue, and labels.csv with where they are."""
    folder.mkdir(parents=True)
    order, rows = np.random.default_rng(seed), []
    for i in range(count):
        wide, high = (int(n) for n in order.integers(40, 64, 2))
        image = Image.new("RGB", (4 * wide, 4 * high), tuple(int(v) for v in order.integers(80, 160, 3)))
        corners = order.uniform([6, 6], [wide - 6, high - 6], (3, 2))
        draw = ImageDraw.Draw(image)
        draw.polygon([tuple(4 * corner) for corner in corners], fill="white")
        for (x, y), colour in zip(4 * corners, CORNERS, strict=True):
            draw.ellipse((x - 14, y - 14, x + 14, y + 14), fill=colour)
        image.resize((wide, high), Image.Resampling.BOX).save(folder / f"{i:02}.png")
        rows.append([f"{i:02}.png", *(f"{value:.2f}" for value in corners.ravel())])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "x0", "y0", "x1", "y1", "x2", "y2"], *rows])
    return folder


class Finder(nn.Module):
    """Heatmaps of half the size, made by hand: how red, green and blue it is around a pixel, and not white."""

    input_shape = (3, 64, 64)
    preprocess = {"letterbox": 114}  # noqa: RUF012
    task, labels = "keypoints", CORNERS

    def __init__(self) -> None:
        super().__init__()
        self.colours, self.around = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 5, stride=2, padding=2, groups=3)
        with torch.no_grad():
            others = 1.5 * torch.eye(3) - 1.0
            self.colours.weight.copy_(others[:, :, None, None])
            self.colours.bias.zero_()
            self.around.weight.fill_(0.04)
            self.around.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.around(self.colours(x).relu())
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keypoints")
    triangles(folder / "photos", 24, 1)
    return folder


@pytest.fixture(scope="module")
def bundle(place: Path) -> Path:
    photos = place / "photos"
    built = api.build(Finder(), place / "f.edge", calib=photos, data=photos, search_budget=0, allow_slower=True)
    assert "PCK" in built.verdict
    assert "labelled images of photos" in built.judged_on
    return place / "f.edge"


def truth_in(folder: Path) -> Array:
    with (folder / "labels.csv").open() as file:
        return np.array([row[1:] for row in list(csv.reader(file))[1:]], float).reshape(-1, 3, 2)


def test_run_answers_with_points_in_pixels_of_the_picture(bundle: Path, place: Path) -> None:
    report = api.run(bundle, place / "photos")
    found = np.array([[(p.x, p.y) for p in one.points] for one in report.points])
    apart = np.linalg.norm(found - truth_in(place / "photos"), axis=2)
    assert np.median(apart) < 2
    first = report.points[0]
    assert [p.label for p in first.points] == list(CORNERS)
    assert all(p.score is not None and p.score > 0.1 for p in first.points)
    assert first.words.startswith("red 0.")
    with pytest.raises(BadInput, match=r"answers with points, not with masks; read `\.masks`|read `\.points`"):
        _ = report.masks
    found_in_array = api.run(bundle, np.asarray(Image.open(place / "photos/00.png"))).points[0]
    assert found_in_array.points == first.points


def test_the_device_program_says_and_saves_the_same(bundle: Path, place: Path, tmp_path: Path) -> None:
    photo = place / "photos/03.png"
    (ours,) = api.run(bundle, photo, save=tmp_path / "ours").points
    command = [sys.executable, str(bundle), "run", str(photo), "--save", "theirs", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    (told,) = json.loads(done.stdout)["predictions"]
    assert told == {
        "input": str(photo),
        "points": [[p.x, p.y, p.score] for p in ours.points],
        "labels": list(CORNERS),
        "files": ["theirs/03.overlay.png"],
    }
    drawn, plain = (np.asarray(Image.open(file).convert("RGB")) for file in (ours.files[0], photo))
    assert np.array_equal(drawn, np.asarray(Image.open(tmp_path / "theirs/03.overlay.png")))
    assert drawn.shape == plain.shape
    for point in ours.points:
        x, y = round(point.x), round(point.y)
        assert (drawn[y - 2 : y + 3, x - 2 : x + 3] != plain[y - 2 : y + 3, x - 2 : x + 3]).any()
    about = subprocess.run([sys.executable, str(bundle)], capture_output=True, text=True, check=True, timeout=120)
    assert "points, 3: red, green, blue" in about.stdout


def test_evaluate_and_report(bundle: Path, place: Path, tmp_path: Path) -> None:
    report = api.evaluate(bundle, data=place / "photos", max_drop=None)
    assert report.metric == "PCK"
    assert report.models[0][1].value > 0.4
    assert set(report.models[0][1].details) == {"nme", "pck_10", "pck"}
    assert tuple(report.models[0][1].details["pck"]) == CORNERS
    api.report(bundle, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "of the input apart at most" in page
    assert page.count("<circle") >= 6
    assert "3 points, by their number" in page


def test_a_plain_file_is_told_its_task_and_int8_is_held_to_floats_points(place: Path, tmp_path: Path) -> None:
    class Plain(nn.Module):
        input_shape, preprocess = (3, 64, 64), "unit"

        def __init__(self) -> None:
            super().__init__()
            self.body = Finder()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.body(x)
            return found

    plain = api.export(Plain(), tmp_path / "plain.onnx").output
    int8 = api.quantize(
        plain, tmp_path / "q.edge", place / "photos", task="keypoints", search_budget=0, allow_slower=True, max_drop=0.5
    )
    assert "where the float graph's are (PCK)" in int8.verdict
    assert len(api.run(tmp_path / "q.edge", place / "photos/00.png").points[0].points) == 3
    with pytest.raises(BadInput, match=r"--top1 0.9: the task of .*q.edge is keypoints, whose answers are no classes"):
        api.check(plain, tmp_path / "q.edge", data=place / "photos", top1=0.9)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (4, "y is float64 [2, 4], and the network answers 3 points, (N, 3, 32, 32)"),
        (5, "points are (N, K, 2) as x and y"),
    ],
)
def test_another_number_of_points_is_one_line(
    bundle: Path, tmp_path: Path, columns: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["file", *(f"c{i}" for i in range(columns))]]
    for i in range(2):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{i}.png")
        rows.append([f"{i}.png", *["7"] * columns])
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert main(["evaluate", str(bundle), "--data", str(tmp_path)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert said in told[0]
    assert told[0].startswith("error: ")


def test_no_truth_and_nan_are_one_line(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    assert main(["evaluate", str(bundle), "--data", str(tmp_path)]) == 2
    assert "has no answers for keypoints; give a labels.csv beside the pictures" in capsys.readouterr().err
    y = np.zeros((2, 3, 2))
    y[1, 2, 0] = np.nan
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 40, 40, 3), np.uint8), y=y)
    assert main(["evaluate", str(bundle), "--data", str(tmp_path / "x.npz")]) == 2
    assert "y is NaN or infinite for" in capsys.readouterr().err


def test_an_answer_that_is_no_points_stays_numbers() -> None:
    class Three(nn.Module):
        input_shape, preprocess, task = (3, 8, 8), "unit", "keypoints"

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 9))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.body(x).reshape(-1, 3, 3)
            return found

    report = api.inspect(Three())
    assert any(
        "its task keypoints is not used: it answers with (N, 3, 3), and points are" in w for w in report.warnings
    )


def test_a_tanh_without_a_range_is_told() -> None:
    told = doubts.of_shades("net", "keypoints", "Tanh", READY)
    assert "ends in a Tanh, which makes -1 to 1, and 0 and 1 are taken for the edges of the input" in told
    assert doubts.of_shades("net", "keypoints", "Sigmoid", READY) == ""
    assert doubts.of_shades("net", "keypoints", "Tanh", Preprocess((8, 8), answer_range=(-1.0, 1.0))) == ""


def test_of_stacked_heatmaps_the_last_counts() -> None:
    maps = torch.zeros(1, 5, 8, 8)
    assert chosen("keypoints", {"0": maps, "1": maps, "2": maps}) == "2"
    assert chosen("keypoints", {"0": maps, "1": torch.zeros(1, 10, 8, 8)}) == "0"
    assert chosen("keypoints", {"0": torch.zeros(1, 7), "heatmaps": maps}) == "heatmaps"


def test_coordinates_about_the_centre_are_told(tmp_path: Path) -> None:
    class Centred(nn.Sequential):
        input_shape, preprocess, task = (3, 8, 8), "unit", "keypoints"

        def __init__(self) -> None:
            super().__init__(nn.Flatten(), nn.Linear(192, 4))
            nn.init.constant_(self[1].bias, -0.3)
            nn.init.constant_(self[1].weight, 0.001)

    photos = RNG.integers(0, 256, (9, 8, 8, 3), np.uint8)
    plain = api.export(Centred(), tmp_path / "c.onnx").output
    int8 = api.quantize(plain, tmp_path / "q.onnx", photos, search_budget=0, allow_slower=True)
    built = api.build(Centred(), tmp_path / "c.edge", calib=photos, search_budget=0, allow_slower=True)
    said = "answers coordinates from -0."
    for report in (int8, built):
        assert sum(said in line and "taken for shares of the input, 0 to 1" in line for line in report.warnings) == 1
    inside, pixels = np.full((9, 4), 0.5), np.full((9, 4), -30.0)
    assert doubts.of_ends("net", inside, READY) == doubts.of_ends("net", pixels, READY) == ""
    assert doubts.of_ends("net", -inside, Preprocess((8, 8), answer_range=(-1.0, 1.0))) == ""


# ------------------------------------------------------------------------------------------------------------ learning
NETS = """
from torch import nn
class Heat(nn.Sequential):
    input_shape, preprocess, task = (3, 32, 32), {"letterbox": 114}, "keypoints"
    def __init__(self):
        super().__init__(nn.Conv2d(3, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 3, 3, 1, 1))
class Coords(nn.Sequential):
    input_shape, preprocess, task = (3, 32, 32), "unit", "keypoints"
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(512, 6))
"""


@pytest.mark.parametrize(("name", "least"), [("Heat", 0.4), ("Coords", -1)])
def test_it_learns(name: str, least: float, tmp_path: Path) -> None:
    triangles(tmp_path / "photos", 60, 2)
    (tmp_path / "nets.py").write_text(NETS)
    report = api.train(f"{tmp_path}/nets.py:{name}", tmp_path / "photos", tmp_path / "w.safetensors", epochs=40)
    assert report.metric == "PCK"
    assert report.test_score > least
    assert report.losses[-1] < report.losses[0] / 2
    with pytest.raises(BadInput, match="--flip: left and right points would be in each other's place"):
        api.train(f"{tmp_path}/nets.py:{name}", tmp_path / "photos", tmp_path / "f.safetensors", epochs=1, flip=True)


def test_shifted_pictures_take_their_points_along() -> None:
    y = np.array([[[20.0, 12.0], [8.0, 25.0]]] * 8)
    images = np.zeros((8, 3, SIDE, SIDE), np.float32)
    images[:, :, 12, 20] = 1
    samples = samples_of(y, size=(SIDE, SIDE))
    wanted = keypoints.answers(samples, np.arange(8))
    moved, points = keypoints.augment(images, wanted, np.random.default_rng(0), flip=False)
    places = points.rows * points.scale - points.cut
    assert len({tuple(place) for place in places[:, 0]}) > 3
    for image, (x, row) in zip(moved, places[:, 0], strict=True):
        assert image[0, int(row), int(x)] == 1


def test_loss_of_perfect_answers_is_nothing_and_unknown_points_are_not_learned() -> None:
    y = np.array([[[16.0, 8.0, 2], [8.0, 24.0, 0]]])
    wanted, images = keypoints.answers(samples_of(y, size=(SIDE, SIDE)), np.arange(1)), torch.zeros(1, 3, SIDE, SIDE)
    right = torch.from_numpy(heatmaps(np.array([[[8.0, 4.0], [3.0, 3.0]]])))
    shares = torch.tensor([[0.5, 0.25, 0.1, 0.1]])
    for answer in (right, shares, shares.reshape(1, 2, 2)):
        assert keypoints.loss(lambda _, a=answer: a, images, wanted, 0.1).item() == pytest.approx(0, abs=1e-6)
        assert keypoints.loss(lambda _, a=answer: a + 0.1, images, wanted, 0.1).item() > 0.001
    tanh = Preprocess((SIDE, SIDE), answer_range=(-1.0, 1.0))
    wanted = keypoints.answers(samples_of(y, tanh, (SIDE, SIDE)), np.arange(1))
    assert keypoints.loss(lambda _: 2 * shares - 1, images, wanted, 0.1).item() == pytest.approx(0, abs=1e-6)


# ---------------------------------------------------------------------------------------------------------------- COCO
def poses(root: Path, **changes: Any) -> Path:
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 30)).save(root / "val2017" / f"{i}.png")
    document = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(3)],
        "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "hip"]}],
        "annotations": [{"id": i, "image_id": i, "keypoints": [5 + i, 6, 2, 30, 20, i]} for i in range(3)],
    } | changes
    (root / "annotations/person_keypoints_val2017.json").write_text(json.dumps(document))
    (root / "annotations/instances_val2017.json").write_text("{}")
    return root


def test_coco_poses_of_one_subject_a_picture(tmp_path: Path) -> None:
    samples = load_data(poses(tmp_path / "coco"), READY, task="keypoints", as_truth=True)
    assert samples.class_names == ("nose", "hip")
    assert samples.truth is not None
    assert samples.truth.tolist() == [[[5 + i, 6, 2], [30, 20, i]] for i in range(3)]
    assert samples.size_of is not None
    assert samples.size_of(1) == (30, 40)
    alone = tmp_path / "coco/annotations/person_keypoints_val2017.json"
    assert len(load_data(alone, READY, task="keypoints", as_truth=True)) == 3


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        (
            [(0, [1, 1, 2]), (0, [1, 1, 2]), (1, [1, 1, 2])],
            "0.png has 2 subjects, and one a picture is read",
        ),
        ([(0, [1, 1, 2]), (1, [1, 1, 2])], "2.png has 0 subjects"),
        ([(0, [1, 1])], "annotation 0 names no image and keypoints"),
        ([(9, [1, 1, 2])], "annotation 0 names no image and keypoints"),
        ([(0, [1, 1, 2]), (1, [1, 1, 2] * 2), (2, [1, 1, 2])], "1.png has another number of keypoints"),
    ],
)
def test_other_poses_are_one_line(annotations: list[tuple[int, list[int]]], said: str, tmp_path: Path) -> None:
    entries = [{"id": n, "image_id": image, "keypoints": flat} for n, (image, flat) in enumerate(annotations)]
    with pytest.raises(BadInput, match=said):
        load_data(poses(tmp_path / "coco", annotations=entries), READY, task="keypoints", as_truth=True)
