"""Boxes and masks follow the pixels: held against the preprocessing itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.networks.spec import IMAGENET
from runtimes.imaging.geometry import UNSEEN, Geometry, nearest
from runtimes.imaging.preprocess import Preprocess

BOXED = [Preprocess((64, 48), letterbox=0), Preprocess((48, 64), letterbox=0, corner=True)]
WAYS = [Preprocess((64, 48)), Preprocess((64, 64), resize=80), Preprocess((32, 32), resize=32), IMAGENET, *BOXED]


@pytest.mark.parametrize("preprocess", WAYS)
@pytest.mark.parametrize("image", [(100, 60), (61, 137), (300, 300)])
def test_a_rectangle_is_where_its_box_says(preprocess: Preprocess, image: tuple[int, int]) -> None:
    """A white rectangle goes through the preprocessing; what is brighter than grey is its box, to one pixel."""
    height, width = image
    pixels = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = width // 4, height // 3, width // 4 + width // 3, height // 3 + height // 4
    pixels[y1:y2, x1:x2] = 255
    seen = preprocess.pixels(pixels)[:, :, 0] > 127
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    geometry = Geometry.of(preprocess, image)
    box = geometry.boxes_to_input(np.array([[x1, y1, x2, y2]], float))[0]
    assert box == pytest.approx([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], abs=0.75)  # half a pixel, blurred


@pytest.mark.parametrize("preprocess", WAYS)
def test_a_mask_is_where_its_pixels_are(preprocess: Preprocess) -> None:
    mask = np.zeros((120, 90), np.uint8)
    mask[30:80, 20:70] = 1
    geometry = Geometry.of(preprocess, mask.shape)
    seen = preprocess.pixels(mask * 255)[:, :, 0] > 127
    found = geometry.mask_to_input(mask) == 1
    assert found.shape == preprocess.size
    outline = 2 * (found.any(0).sum() + found.any(1).sum())
    assert (found != seen).sum() <= outline // 2  # a pixel that the outline cuts may fall on either side


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(1, 64), st.integers(1, 64), st.integers(0, 40),
    st.sampled_from(["stretched", "cropped", "boxed", "cornered"]),
)  # fmt: skip
def test_there_and_back(height: int, width: int, tall: int, wide: int, more: int, way: str) -> None:
    resize = max(tall, wide) + more if way == "cropped" else None
    boxed = way in ("boxed", "cornered")
    preprocess = Preprocess((tall, wide), resize=resize, letterbox=0 if boxed else None, corner=way == "cornered")
    geometry = Geometry.of(preprocess, (height, width))
    inner = np.array([[0.25 * wide, 0.25 * tall, 0.75 * wide, 0.75 * tall]])
    if boxed:  # what the image covers
        inner = geometry.boxes_to_input(np.array([[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]]))
    # An image of few pixels cannot reach beyond itself, so that a box may be cut; else rounding of float32
    back = geometry.boxes_to_input(geometry.boxes_to_image(inner))
    assert back == pytest.approx(inner, abs=1e-2)
    mask = np.arange(tall * wide).reshape(tall, wide) % 200
    large = geometry.mask_to_image(mask.astype(np.uint8))
    assert large.shape == (height, width)
    assert set(np.unique(large)) <= {*range(200), UNSEEN}


def test_what_the_crop_did_not_see() -> None:
    geometry = Geometry.of(Preprocess((4, 4), resize=4), (4, 8))
    mask = geometry.mask_to_image(np.full((4, 4), 7, np.uint8))
    assert mask.tolist() == [[255, 255, 7, 7, 7, 7, 255, 255]] * 4
    assert geometry.boxes_to_image(np.array([[0.0, 0, 4, 4]])).tolist() == [[2, 0, 6, 4]]
    assert geometry.boxes_to_input(np.array([[0.0, 0, 2, 4], [0, 1, 3, 3]])).tolist() == [[0, 0, 0, 4], [0, 1, 1, 3]]


def test_a_border_is_unseen_in_a_mask_and_beyond_every_box() -> None:
    geometry = Geometry.of(Preprocess((4, 8), letterbox=114), (2, 2))
    assert geometry.cut == (0, -2)
    mask = geometry.mask_to_input(np.array([[1, 2], [3, 4]], np.uint8))
    assert mask.tolist() == [[255, 255, 1, 1, 2, 2, 255, 255]] * 2 + [[255, 255, 3, 3, 4, 4, 255, 255]] * 2
    assert np.array_equal(geometry.mask_to_image(mask), [[1, 2], [3, 4]])
    assert geometry.boxes_to_input(np.array([[0.0, 0, 1, 1]])).tolist() == [[2, 0, 4, 2]]
    assert geometry.boxes_to_image(np.array([[0.0, 0, 8, 4]])).tolist() == [[0, 0, 2, 2]]
    cornered = Geometry.of(Preprocess((4, 8), letterbox=114, corner=True), (2, 2))
    assert cornered.boxes_to_image(np.array([[0.0, 2, 2, 4]])).tolist() == [[0, 1, 1, 2]]


@pytest.mark.parametrize("upright", [False, True])
def test_what_is_unseen_ends_where_the_picture_begins(upright: bool) -> None:
    """To the pixel, on all sides, of a picture of the input's own scale."""

    def turned(values: object) -> np.ndarray:
        return np.transpose(values) if upright else np.asarray(values)

    size, long = (4, 4), ((8, 4) if upright else (4, 8))
    boxed = Geometry.of(Preprocess(long, letterbox=0), size).mask_to_input(np.full(size, 7, np.uint8))
    cropped = Geometry.of(Preprocess(size, resize=4), long).mask_to_image(np.full(size, 7, np.uint8))
    for found in (boxed, cropped):
        assert turned(found).tolist() == [[UNSEEN] * 2 + [7] * 4 + [UNSEEN] * 2] * 4


@pytest.mark.parametrize(
    "preprocess", [Preprocess((8, 8)), Preprocess((8, 8), resize=8), Preprocess((8, 8), letterbox=0)]
)
def test_a_mask_of_fewer_pixels_shows_the_same_view(preprocess: Preprocess) -> None:
    """As networks give it that do not enlarge their answer: each of its pixels stands for a square of the input's."""
    geometry = Geometry.of(preprocess, (12, 20))
    small = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(
        geometry.mask_to_image(small), geometry.mask_to_image(small.repeat(2, 0).repeat(2, 1))
    )
    assert UNSEEN not in Geometry.of(Preprocess((8, 8)), (12, 20)).mask_to_image(small)


def test_an_input_is_its_own_image() -> None:
    mask = np.arange(12).reshape(3, 4).astype(np.uint8)
    geometry = Geometry.same((3, 4))
    assert np.array_equal(geometry.mask_to_image(mask), mask)
    assert np.array_equal(geometry.mask_to_input(mask), mask)
    boxes = np.array([[0, 1, 2.5, 3]], np.float32)
    assert np.array_equal(geometry.boxes_to_image(boxes), boxes)


def test_nearest_is_the_pixel_under_the_centre() -> None:
    for have, want in ((5, 3), (3, 5), (4, 4), (1, 7), (7, 1)):
        centres = (np.arange(want) + 0.5) * have / want
        # A centre on the line between two pixels belongs to the upper one, as floor says
        assert nearest(np.arange(want), have, want).tolist() == np.floor(centres + 1e-12).astype(int).tolist()
