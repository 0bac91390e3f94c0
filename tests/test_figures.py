"""Drawn pictures: the same bytes everywhere, masks and boxes of what is seen, every size and both kinds of task."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edgecnn.data.figures import CLASSES, Figure, box_around, covers, draw, enlarge, overlap
from edgecnn.data.load import load_data
from edgecnn.networks.spec import IMAGENET, unit_range
from runtimes.base import BadInput

READY = unit_range(64, 64)


def test_the_same_bytes_everywhere() -> None:
    """Pinned: pictures are whole numbers made of seeded whole numbers and exact float operations."""
    digest = hashlib.sha256()
    for single in (False, True):
        for i in range(20):
            scene = draw(i, 64, 48, single)
            digest.update(scene.pixels.tobytes() + scene.mask.tobytes() + scene.target.boxes.tobytes())
    assert digest.hexdigest() == "df49b751156d67c6d54eba26257fe4e3a0c441fd843643ee83e60701b91b8055"


def test_a_single_figure_is_its_images_class() -> None:
    samples = load_data("shapes:30", READY)
    assert samples.class_names == CLASSES
    for i in range(30):
        assert samples.targets[i].labels.tolist() == [samples.labels[i]] == [i % 3]
        assert set(np.unique(samples.masks[i])) == {0, i % 3 + 1}


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_scenes_hold_up_to_four_figures(task: str) -> None:
    samples = load_data("shapes:80", READY, task=task)
    assert samples.labels is None
    assert samples.class_names == (("background",) if task == "segmentation" else ()) + CLASSES
    counts = [len(target.labels) for target in samples.targets]
    assert set(counts) == {1, 2, 3, 4}
    assert set(np.concatenate([t.labels for t in samples.targets])) == {0, 1, 2}


def test_masks_and_boxes_say_the_same() -> None:
    for i in range(60):
        scene = draw(i, 64, 64, False)
        assert len(scene.target.labels) == len(scene.figures) >= 1
        for n, (box, label) in enumerate(zip(scene.target.boxes.astype(int), scene.target.labels, strict=True)):
            x1, y1, x2, y2 = box
            seen = scene.owner == n
            assert not (seen & ~_inside(x1, y1, x2, y2)).any()
            assert all(edge.any() for edge in (seen[y1], seen[y2 - 1], seen[:, x1], seen[:, x2 - 1]))
            assert set(scene.mask[seen]) == {label + 1}
        assert (scene.mask[scene.owner < 0] == 0).all()


def _inside(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    area = np.zeros((64, 64), bool)
    area[y1:y2, x1:x2] = True
    return area


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_figures_are_what_pillow_draws(kind: int) -> None:
    """Corners turned by the angle of t, drawn by Pillow: at most the pixels on the outline differ."""
    figure = Figure(kind, 50.0, 47.5, 30.0, 0.3, (0, 0, 0))
    angle = 2 * np.arctan(0.3)
    canvas = Image.new("1", (100, 100))
    if kind == 0:
        ImageDraw.Draw(canvas).ellipse((20, 17.5, 80, 77.5), fill=1)
    else:
        starts = {1: np.arange(4) * np.pi / 2 + np.pi / 4, 2: np.arange(3) * 2 * np.pi / 3 - np.pi / 2}[kind]
        corners = [(50 + 30 * np.cos(a + angle), 47.5 + 30 * np.sin(a + angle)) for a in starts]
        ImageDraw.Draw(canvas).polygon([(x - 0.5, y - 0.5) for x, y in corners], fill=1)
    ours, theirs = covers(figure, 100, 100), np.asarray(canvas)
    outline = 190
    assert (ours != theirs).sum() < outline
    assert abs(int(ours.sum()) - int(theirs.sum())) < outline
    exact = {0: np.pi, 1: 2.0, 2: 3 * np.sqrt(3) / 4}[kind] * 900
    assert ours.sum() == pytest.approx(exact, rel=0.02)  # pixels on the outline are in or out


def test_enlarging_joins_the_dots_by_straight_lines() -> None:
    dots = np.array([[0, 10], [20, 30]])[..., None]
    assert enlarge(dots, 3, 5)[..., 0].tolist() == [[0, 2, 5, 7, 10], [10, 12, 15, 17, 20], [20, 22, 25, 27, 30]]


def test_figures_hardly_overlap() -> None:
    for i in range(60):
        figures = draw(i, 64, 64, False).figures
        pairs = [(a, b) for n, a in enumerate(figures) for b in figures[:n]]
        assert all(overlap(a, b) <= 0.1 for a, b in pairs)
    assert overlap(Figure(0, 0, 0, 2, 0, ()), Figure(0, 3, 0, 2, 0, ())) == 0.25
    assert overlap(Figure(0, 0, 0, 2, 0, ()), Figure(0, 1, 0, 1, 0, ())) == 1.0


@pytest.mark.parametrize("size", [(8, 8), (9, 40), (224, 224), (33, 50)])
def test_any_size(size: tuple[int, int]) -> None:
    for i in range(40):
        scene = draw(i, *size, False)
        assert scene.pixels.shape == (*size, 3)
        assert scene.pixels.dtype == np.uint8
        assert (scene.target.boxes[:, 2:] > scene.target.boxes[:, :2]).all()


def test_networks_that_crop_and_grey_ones() -> None:
    sample = load_data("shapes:2", IMAGENET)[0]
    assert sample.shape == (3, 224, 224)
    assert np.array_equal(sample, unit_free(draw(0, 224, 224, True).pixels))
    assert load_data("shapes:2", unit_range(32, 32, channels=1))[0].shape == (1, 32, 32)


def unit_free(pixels: np.ndarray) -> np.ndarray:
    """ImageNet's normalization alone: nothing is resized or cut."""
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (IMAGENET.mean, IMAGENET.std))
    return (pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255) - mean) / std


def test_parts_do_not_meet_and_hold_all_classes_alike() -> None:
    train, test = (load_data("shapes:300", READY, split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (240, 60)
    assert not set(train.ids) & set(test.ids)
    assert np.bincount(test.labels).tolist() == [20, 20, 20]
    assert np.array_equal(test.masks[5], draw(int(test.ids[5][7:-1]), 64, 64, True).mask)


@pytest.mark.parametrize("spec", ["shapes:0", "shapes:x", "shapes:", "shapes:-1", "shapes:1000000"])
def test_shapes_that_are_misspelled(spec: str) -> None:
    with pytest.raises(
        BadInput, match=f"^{spec}: is no number of drawn images; write shapes or shapes:N with N from 1 to 100,000"
    ):
        load_data(spec, READY)


def test_networks_that_take_no_pictures_and_pictures_too_small() -> None:
    with pytest.raises(BadInput, match=r"shapes: this network takes \[N, 5, 8, 8\], no pictures"):
        load_data("shapes", (5, 8, 8))
    with pytest.raises(BadInput, match=r"shapes: is drawn from 8x8 on; this network eats \[4, 4\]"):
        load_data("shapes", unit_range(4, 4))


def test_it_is_lazy_and_fast() -> None:
    start = time.process_time()
    samples = load_data("shapes:100000", READY, task="detection")
    samples[99_999]
    assert time.process_time() - start < 1.0
    start = time.process_time()
    for i in range(50):
        samples[i]
    assert (time.process_time() - start) / 50 < 0.02  # 1 to 2 ms here, an hour's worth of slack for a slow machine


def test_a_box_is_around_its_pixels() -> None:
    inside = np.zeros((9, 9), bool)
    inside[2:5, 3] = inside[4, 3:8] = True
    assert box_around(inside) == (3, 2, 8, 5)
