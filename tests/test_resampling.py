"""The resize without antialias is OpenCV's: to torch's `interpolate` in floats, and to numbers that OpenCV gave."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.resampling import resize

sides = st.integers(1, 70)
SMALL = np.array(
    [[0, 29, 116, 5, 208], [83, 129, 233, 139, 103], [166, 229, 94, 17, 254], [249, 73, 211, 151, 149]], np.uint8
)
OPENCV = {
    ("bilinear", (3, 7)): [
        [14, 32, 71, 135, 58, 97, 190], [125, 155, 174, 164, 102, 121, 179], [235, 157, 125, 191, 146, 145, 166],
    ],
    ("bilinear", (7, 3)): [
        [10, 116, 140], [41, 158, 131], [92, 225, 117], [143, 164, 145], [187, 102, 173], [189, 169, 158],
        [190, 211, 150],
    ],
    ("bilinear", (2, 2)): [[70, 93], [165, 113]],
    ("bicubic", (3, 7)): [
        [8, 19, 74, 135, 41, 84, 203], [118, 174, 205, 164, 88, 111, 186], [250, 147, 109, 192, 146, 139, 170],
    ],
    ("bicubic", (7, 3)): [
        [0, 104, 141], [28, 164, 124], [82, 233, 108], [151, 164, 142], [198, 94, 177], [195, 163, 160],
        [185, 223, 143],
    ],
    ("bicubic", (2, 2)): [[49, 86], [175, 98]],
    ("nearest", (3, 7)): [
        [0, 0, 29, 116, 116, 5, 208], [83, 83, 129, 233, 233, 139, 103], [166, 166, 229, 94, 94, 17, 254],
    ],
}  # fmt: skip
"""`cv2.resize(SMALL, size[::-1], interpolation=...)` of OpenCV 4.10 and 5.0 for x86, which are the same."""
DEEP = {
    "bilinear": [
        [3555, 8230, 18333, 34824, 14967, 24996, 48958], [31996, 40000, 44865, 42020, 26324, 31115, 45874],
        [60438, 40441, 32235, 49216, 37681, 37234, 42790],
    ],
    "bicubic": [
        [2061, 4810, 19140, 34748, 10598, 21526, 52226], [30408, 44767, 52659, 42020, 22576, 28583, 47908],
        [64163, 37664, 28106, 49291, 37557, 35640, 43589],
    ],
}  # fmt: skip
"""The same of `SMALL * 257` as uint16, for (3, 7)."""


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def by_torch(image: np.ndarray, size: tuple[int, int], how: str) -> np.ndarray:
    planes = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    aligned = {} if how == "nearest" else {"align_corners": False}
    return torch.nn.functional.interpolate(planes, size, mode=how, **aligned)[0].permute(1, 2, 0).numpy()


def plain(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """OpenCV's fixed point, one number after the other."""

    def taps(inputs: int, outputs: int) -> list[tuple[int, int, int, int]]:
        found = []
        for x in range(outputs):
            at = np.float32((x + 0.5) * (1 / (outputs / inputs)) - 0.5)
            first = math.floor(at)
            part = np.float32(at - np.float32(first))
            one, other = (int(np.rint(share * np.float32(2048))) for share in (np.float32(1) - part, part))
            found.append((max(first, 0), min(first + 1, inputs - 1), one, other))
        return found

    (height, width), made = image.shape[:2], np.empty((*size, image.shape[2]), np.uint8)
    for y, (above, below, v0, v1) in enumerate(taps(height, size[0])):
        for x, (left, right, w0, w1) in enumerate(taps(width, size[1])):
            for c in range(image.shape[2]):
                row0, row1 = (
                    (w0 * int(image[row, left, c]) + w1 * int(image[row, right, c])) >> 4 for row in (above, below)
                )
                made[y, x, c] = ((v0 * row0 >> 16) + (v1 * row1 >> 16) + 2) >> 2
    return made


@pytest.mark.parametrize(("how", "size"), OPENCV, ids=str)
def test_it_gives_what_opencv_gave(how: str, size: tuple[int, int]) -> None:
    assert resize(SMALL[:, :, None], size, how, antialias=False)[:, :, 0].tolist() == OPENCV[how, size]


@pytest.mark.parametrize("how", DEEP)
def test_pictures_of_16_bits_become_what_opencv_made_of_them(how: str) -> None:
    ready = Preprocess((3, 7), 1, interpolation=how, antialias=False)(SMALL.astype(np.uint16) * 257)
    np.testing.assert_allclose(ready[0] * 65535, DEEP[how], atol=0.51)


@settings(deadline=None, max_examples=60)
@given(h=st.integers(1, 20), w=sides, height=st.integers(1, 20), width=st.integers(1, 30), c=st.sampled_from([1, 3]))
@example(h=9, w=20, height=9, width=13, c=3)
@example(h=1, w=1, height=20, width=30, c=1)
@example(h=20, w=60, height=10, width=30, c=3)
def test_bilinear_is_opencvs_fixed_point_to_the_bit(h: int, w: int, height: int, width: int, c: int) -> None:
    image = noise(h, w, c)
    np.testing.assert_array_equal(resize(image, (height, width), antialias=False), plain(image, (height, width)))


@settings(deadline=None, max_examples=100)
@given(h=sides, w=sides, height=sides, width=sides, seed=st.integers(0, 99))
@example(h=9, w=20, height=9, width=13, seed=0)
def test_bilinear_is_torchs_interpolate_rounded(h: int, w: int, height: int, width: int, seed: int) -> None:
    """What the fixed point loses in three steps is below half a level, weights of 11 bits are off by an eighth."""
    image = noise(h, w, 3, seed=seed)
    apart = resize(image, (height, width), antialias=False) - by_torch(image, (height, width), "bilinear")
    assert apart.min() >= -0.5 - 0.5 - 0.13
    assert apart.max() <= 0.5 + 0.13


@settings(deadline=None, max_examples=100)
@given(h=sides, w=sides, height=sides, width=sides, seed=st.integers(0, 99))
@example(h=9, w=20, height=9, width=13, seed=0)
@example(h=20, w=9, height=13, width=9, seed=0)
def test_bicubic_is_torchs_interpolate_rounded_once(h: int, w: int, height: int, width: int, seed: int) -> None:
    image = noise(h, w, 3, seed=seed)
    found = resize(image, (height, width), "bicubic", antialias=False)
    assert found.dtype == np.uint8
    wanted = np.clip(by_torch(image, (height, width), "bicubic"), 0, 255)
    assert np.abs(found - wanted).max() <= 0.5005


def test_a_half_goes_to_the_even_level() -> None:
    """Halved, 4 k and 4 k + 1 are 4 k + 1/2 to a cubic; OpenCV 4.10 and 5.0 give 4 k, with IPP and without."""
    row = np.repeat(np.arange(40, dtype=np.uint8) * 4, 2)
    row[1::2] += 1
    made = resize(np.tile(row, (16, 1))[:, :, None], (16, 40), "bicubic", antialias=False)[:, :, 0]
    np.testing.assert_array_equal(made, np.tile([*range(0, 156, 4), 157], (16, 1)))


@settings(deadline=None, max_examples=60)
@given(h=sides, w=sides, height=sides, width=sides, how=st.sampled_from(["bilinear", "bicubic"]))
def test_floats_are_torchs_interpolate(h: int, w: int, height: int, width: int, how: str) -> None:
    image = noise(h, w, 3).astype(np.float32) * np.float32(0.99)
    found = resize(image, (height, width), how, antialias=False)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.clip(by_torch(image, (height, width), how), 0, 255), atol=5e-4)


@settings(deadline=None, max_examples=150)
@given(h=sides, w=sides, height=sides, width=sides, deep=st.booleans(), antialias=st.booleans())
def test_nearest_is_torchs_but_where_a_place_is_whole(h, w, height, width, deep, antialias) -> None:
    """There one quotient of floats, OpenCV's or torch's, may end below the whole number, and the pixel is the one
    before.
    """
    image = noise(h, w, 3).astype(np.float32 if deep else np.uint8)
    found = resize(image, (height, width), "nearest", antialias)
    assert found.dtype == image.dtype
    rows, columns = (
        np.array([x * inputs % outputs != 0 or x == 0 for x in range(outputs)])
        for inputs, outputs in ((h, height), (w, width))
    )
    wanted = by_torch(image, (height, width), "nearest")
    np.testing.assert_array_equal(found[rows][:, columns], wanted[rows][:, columns])


def test_nearest_has_opencvs_quotient() -> None:
    """OpenCV gives pixel 110 for place 326 of 222 pixels on 652, 111 - 4e-15 in doubles, where 111 is exact."""
    ramp = np.arange(222, dtype=np.uint8)[None, :, None]
    exact = np.arange(652) * 222 // 652
    found = resize(ramp, (1, 652), "nearest")[0, :, 0]
    assert np.flatnonzero(found != exact).tolist() == [326]
    assert found[326] == 110


def test_nearest_mixes_no_distance_with_no_return() -> None:
    """A depth map: 0 where nothing came back, else millimetres."""
    depth = np.where(noise(48, 64) < 90, 0, noise(48, 64).astype(np.uint16) + 3000)
    for fit in ({}, {"letterbox": 0}, {"resize": 40}):
        ways = [Preprocess((31, 40), 1, interpolation=how, **fit) for how in ("nearest", "bilinear")]
        seen = [np.unique(np.rint(way(depth) * 65535)) for way in ways]
        assert set(seen[0]) <= {*depth.reshape(-1).tolist()}
        assert any(0 < value < 3000 for value in seen[1])


def test_a_letterbox_and_a_crop_copy_pixels_too() -> None:
    image = noise(33, 47, 3)
    boxed = Preprocess((40, 40), letterbox=114, interpolation="nearest").pixels(image)
    np.testing.assert_array_equal(boxed[6:34], resize(image, (28, 40), "nearest"))
    assert (boxed[:6] == 114).all()
    assert (boxed[34:] == 114).all()
    cut = Preprocess((24, 24), resize=30, interpolation="nearest").pixels(image)
    np.testing.assert_array_equal(cut, resize(image, (30, 42), "nearest")[3:27, 9:33])
