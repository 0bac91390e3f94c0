"""Where points lie that a network answers with: Gaussians at known places, coordinates in every unit, both layouts."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.base import Array, BadInput
from runtimes.imaging.geometry import Geometry
from runtimes.imaging.keypoints import count_of_points, is_points, points_of
from runtimes.imaging.maps import Seen
from runtimes.imaging.preprocess import Preprocess

SEEN = Seen((96, 64))
RNG = np.random.default_rng(0)


def gaussian(x: float, y: float, size: tuple[int, int], height: float = 1.0, width: float = 1.5) -> Array:
    """A heatmap (h, w) whose peak is at column x and row y, which need not be whole."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.asarray(height * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / width**2), np.float32)


def test_a_gaussian_is_found_within_a_quarter_of_a_cell() -> None:
    for _ in range(200):
        high, wide = (int(n) for n in RNG.integers(6, 40, 2))
        places = RNG.uniform([1, 1], [wide - 2, high - 2], (5, 2))
        heights = RNG.uniform(0.2, 3, 5)
        maps = np.stack([gaussian(x, y, (high, wide), h) for (x, y), h in zip(places, heights, strict=True)])
        found = points_of(maps, SEEN)
        apart = np.abs(found[:, :2] / [64 / wide, 96 / high] - places)
        assert apart.max() <= 0.25 + 1e-6
        cells = np.rint(places).astype(int)
        assert found[:, 2] == pytest.approx([m[y, x] for m, (x, y) in zip(maps, cells, strict=True)])


def test_the_quarter_goes_to_the_higher_neighbour_and_stops_at_the_edge() -> None:
    one = np.zeros((1, 4, 4), np.float32)
    one[0, 2, 1], one[0, 2, 2], one[0, 1, 1] = 5, 3, 4
    assert points_of(one, Seen((4, 4))).tolist() == [[1.25, 1.75, 5]]
    corner = np.zeros((1, 4, 4), np.float32)
    corner[0, 0, 3], corner[0, 0, 2] = 2, 1
    assert points_of(corner, Seen((8, 8))).tolist() == [[6, 0, 2]]
    alike = np.zeros((1, 3, 3), np.float32)
    alike[0, 1, 1] = 1
    assert points_of(alike, Seen((3, 3))).tolist() == [[1, 1, 1]]


def test_both_layouts_and_one_map() -> None:
    maps = np.stack([gaussian(3, 9, (24, 16)), gaussian(10.3, 2.8, (24, 16)), gaussian(5, 5, (24, 16))])
    first, last = points_of(maps, SEEN), points_of(maps.transpose(1, 2, 0), Seen((96, 64), channels_last=True))
    assert np.array_equal(first, last)
    assert np.array_equal(points_of(maps[:1], SEEN), first[:1])
    assert count_of_points((24, 16, 3), SEEN) == count_of_points((3, 24, 16), SEEN) == 3


@pytest.mark.parametrize(
    ("answer", "ends", "wanted"),
    [
        ([0.25, 0.5, 1.0, -0.1], None, [[16, 48], [64, -9.6]]),
        ([16, 48, 1, 90], None, [[16, 48], [1, 90]]),
        ([0.5, 1.5, 1.0, 70], None, [[32, 144], [64, 6720]]),  # most are shares, and one is far off
        ([-1, 1, 0, 0.5], (-1.0, 1.0), [[0, 96], [32, 72]]),
        ([-0.5, 0.5], (-0.5, 0.5), [[0, 96]]),
    ],
)
def test_coordinates(answer: list[float], ends: tuple[float, float] | None, wanted: list[list[float]]) -> None:
    for shape in ((-1,), (-1, 2)):
        found = points_of(np.float32(answer).reshape(shape), SEEN, ends)
        assert found[:, :2] == pytest.approx(np.array(wanted), abs=1e-4)
        assert np.isnan(found[:, 2]).all()


def test_a_map_that_is_not_finite_has_no_place() -> None:
    maps = np.stack([gaussian(3, 3, (8, 8)), gaussian(4, 4, (8, 8))])
    maps[1, 0, 0] = np.nan
    found = points_of(maps, Seen((8, 8)))
    assert found[0, :2].tolist() == [3, 3]
    assert np.isnan(found[1, :2]).all()


def test_what_may_be_points() -> None:
    fits = {(17, 64, 48): True, (34,): True, (17, 2): True, ("n",): True, (33,): False, (17, 3): False, (): False}
    assert {sizes: is_points(sizes) for sizes in fits} == fits
    assert [count_of_points(sizes, Seen()) for sizes in [("n",), (7,), (7, 2), (8,)]] == [None, None, 7, 4]
    with pytest.raises(BadInput, match="is no picture, which points could lie in; give the task regression"):
        points_of(np.zeros(4, np.float32), Seen())


@pytest.mark.parametrize(
    "ready",
    [
        Preprocess((48, 32)),
        Preprocess((32, 32), resize=40),
        Preprocess((40, 56), letterbox=114),
        Preprocess((40, 56), letterbox=0, corner=True),
    ],
)
def test_points_go_to_the_picture_as_boxes_do(ready: Preprocess) -> None:
    geometry, points = Geometry.of(ready, (90, 70)), RNG.uniform(20, 50, (6, 2))
    inside = geometry.points_to_input(points)
    assert geometry.points_to_image(inside) == pytest.approx(points)
    boxes = np.concatenate([points, points + 3], axis=1)
    assert geometry.boxes_to_image(geometry.boxes_to_input(boxes))[:, :2] == pytest.approx(points, abs=1e-4)
    assert geometry.boxes_to_input(boxes)[:, :2] == pytest.approx(inside, abs=1e-4)
