"""The resize against Pillow, the normalization against torch, sizes and crops against torchvision's rules."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from runtimes.base import BadInput
from runtimes.imaging.preprocess import (
    Preprocess,
    border,
    centre,
    shorter_side,
    to_channels,
    within,
)
from runtimes.imaging.resampling import INTERPOLATIONS, PRECISION_BITS, filter_weights, resize

sides = st.integers(1, 70)
IMAGENET = Preprocess((224, 224), 3, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


FILTER = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def pillow(image: np.ndarray, size: tuple[int, int], interpolation: str = "bilinear") -> np.ndarray:
    mode = image[:, :, 0] if image.shape[2] == 1 else image
    resized = np.asarray(Image.fromarray(mode).resize(size[::-1], FILTER[interpolation]))
    return resized.reshape(*size, image.shape[2])


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@settings(deadline=None, max_examples=150)
@given(h=sides, w=sides, height=sides, width=sides, channels=st.sampled_from([1, 3]), seed=st.integers(0, 99))
def test_resize_is_within_one_grey_level_of_pillow(h, w, height, width, channels, seed) -> None:
    image = noise(h, w, channels, seed=seed)
    assert apart(resize(image, (height, width)), pillow(image, (height, width))) <= 1


@settings(deadline=None, max_examples=150)
@given(n=st.integers(1, 300), target=st.integers(1, 300), upright=st.booleans(), how=st.sampled_from([*FILTER]))
def test_resize_along_one_axis_is_pillow_to_the_bit(n: int, target: int, upright: bool, how: str) -> None:
    image = noise(n, 5, 3) if upright else noise(5, n, 3)
    size = (target, 5) if upright else (5, target)
    np.testing.assert_array_equal(resize(image, size, how), pillow(image, size, how))


@settings(deadline=None, max_examples=80)
@given(h=sides, w=sides, height=sides, width=sides, seed=st.integers(0, 99))
def test_a_cubic_is_within_two_grey_levels_of_pillow(h: int, w: int, height: int, width: int, seed: int) -> None:
    """Where nothing is cut off: between the passes an overshoot is, so that their order shows more than rounding."""
    image = noise(h, w, 3, seed=seed) // 2 + 64  # inside of the range nothing is cut
    assert apart(resize(image, (height, width), "bicubic"), pillow(image, (height, width), "bicubic")) <= 2


def test_shrinking_without_antialias_looks_at_two_pixels() -> None:
    stripes = np.zeros((8, 64, 1), np.uint8)
    stripes[:, 3::8] = 255
    assert set(np.unique(resize(stripes, (8, 8), antialias=False))) == {128}  # centres lie between pixels 3 and 4


@pytest.mark.parametrize("size", [(256, 341), (31, 500), (1, 1), (375, 500), (750, 1000)])
def test_resize_of_a_photograph_sized_image(size: tuple[int, int]) -> None:
    x = np.linspace(0, 255, 500)
    image = np.stack(
        [np.tile(x, (375, 1)), np.tile(x[::-1], (375, 1)), 127 + 120 * np.sin(np.outer(x[:375], x) / 900)], 2
    )
    image = image.astype(np.uint8)
    assert apart(resize(image, size), pillow(image, size)) <= 1


def test_shrinking_is_antialiased() -> None:
    """Black and white columns one pixel wide: point sampling gives stripes, an antialiased filter gives grey."""
    stripes = np.zeros((8, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    inner = resize(stripes, (8, 8))[:, 1:-1]
    assert apart(inner, np.full_like(inner, 127)) <= 1


@pytest.mark.parametrize(("value", "size"), [(0, (3, 90)), (255, (90, 3)), (77, (200, 200))])
def test_a_flat_image_stays_flat(value: int, size: tuple[int, int]) -> None:
    image = np.full((20, 30, 3), value, np.uint8)
    np.testing.assert_array_equal(resize(image, size), np.full((*size, 3), value))


def test_the_whole_road_equals_torch() -> None:
    """torchvision's ImageNet evaluation: shorter side 256, crop 224, /255, minus mean, over std, in float32."""
    image = noise(300, 401, 3)
    resized = Image.fromarray(image).resize((342, 256), Image.Resampling.BILINEAR)
    left, top = round((342 - 224) / 2), round((256 - 224) / 2)
    cropped = np.asarray(resized.crop((left, top, left + 224, top + 224)))
    np.testing.assert_array_equal(IMAGENET.pixels(image).shape, cropped.shape)
    assert apart(IMAGENET.pixels(image), cropped) <= 1
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET.mean, IMAGENET.std))
    want = (torch.from_numpy(IMAGENET.pixels(image).copy()).permute(2, 0, 1).float().div(255) - mean) / std
    got = IMAGENET(image)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, want.numpy())


def test_without_resize_the_image_is_stretched() -> None:
    image = noise(10, 40, 3)
    np.testing.assert_array_equal(Preprocess((10, 10)).pixels(image), resize(image, (10, 10)))
    np.testing.assert_array_equal(Preprocess((10, 40)).pixels(image), image)


@pytest.mark.parametrize(
    ("size", "target", "want"),
    [((375, 500), 256, (256, 341)), ((500, 375), 256, (341, 256)), ((100, 100), 7, (7, 7)), ((3, 1000), 3, (3, 1000))],
)
def test_the_shorter_side_as_torchvision_computes_it(size, target, want) -> None:
    assert shorter_side(size, target) == want


@pytest.mark.parametrize(("have", "top"), [(7, 2), (8, 2), (9, 2), (10, 3)])
def test_the_crop_is_centred_as_in_torchvision(have: int, top: int) -> None:
    """torchvision rounds half to even: (9 - 4) / 2 = 2.5 gives 2, (7 - 4) / 2 = 1.5 gives 2."""
    assert centre((have, 4), (4, 4)) == (slice(top, top + 4), slice(0, 4))


@settings(deadline=None, max_examples=150)
@given(
    h=sides, w=sides, height=sides, width=sides, how=st.sampled_from(INTERPOLATIONS), antialias=st.booleans(),
    deep=st.booleans(), data=st.data(),
)  # fmt: skip
def test_a_part_of_a_resized_image_is_that_part(h, w, height, width, how, antialias, deep, data) -> None:
    """Only the part is computed, of the pixels that it needs."""
    image = noise(h, w, 3).astype(np.float32 if deep else np.uint8)
    ends = [sorted(data.draw(st.integers(0, most)) for _ in range(2)) for most in (height - 1, width - 1)]
    rows, columns = (slice(first, last + 1) for first, last in ends)
    whole = resize(image, (height, width), how, antialias)
    part = resize(image, (height, width), how, antialias, (rows, columns))
    np.testing.assert_array_equal(part, whole[rows, columns])


def test_sums_are_those_of_whole_numbers() -> None:
    """The oracle is Pillow's formula in int64, also where many numbers come together, and for one channel."""
    for shape, size, how in (((900, 3, 3), (7, 3), "bicubic"), ((5000, 2, 1), (3, 2), "bilinear")):
        image = noise(*shape)
        rows, weights = filter_weights(shape[0], size[0], how)
        sums = (image[rows].astype(np.int64) * weights[:, :, None, None]).sum(1) + (1 << (PRECISION_BITS - 1))
        np.testing.assert_array_equal(resize(image, size, how), np.clip(sums >> PRECISION_BITS, 0, 255))


@settings(deadline=None, max_examples=150)
@given(h=sides, w=sides, height=sides, width=sides, grey=st.integers(0, 255), corner=st.booleans())
def test_a_letterbox_is_pillows_pad(h: int, w: int, height: int, width: int, grey: int, corner: bool) -> None:
    """`ImageOps.pad` scales by one side's quotient and rounds the middle half to even, both differ by one at most."""
    image = Image.fromarray(noise(h, w, 3, seed=h))
    preprocess = Preprocess((height, width), letterbox=grey, corner=corner)
    found = preprocess.pixels(np.asarray(image))
    high, wide = within((h, w), (height, width))
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    assert abs(ImageOps.contain(image, (width, height)).width - wide) <= 1
    assert abs(ImageOps.contain(image, (width, height)).height - high) <= 1
    left, top = (0, 0) if corner else ((width - wide) // 2, (height - high) // 2)
    wanted = Image.new("RGB", (width, height), (grey,) * 3)
    wanted.paste(resized, (left, top))
    assert apart(found, np.asarray(wanted)) <= 1


@pytest.mark.parametrize(
    ("size", "target", "fits", "corner"),
    [
        ((1080, 810), (640, 640), (640, 480), (0, 80)),
        ((375, 500), (320, 640), (320, 427), (0, 106)),
        ((3, 9), (5, 5), (2, 5), (1, 0)),
        ((10, 10), (33, 40), (33, 33), (0, 3)),
        ((1, 9999), (8, 8), (1, 8), (3, 0)),
    ],
)
def test_a_letterbox_keeps_the_proportions(
    size: tuple[int, int], target: tuple[int, int], fits: tuple[int, int], corner: tuple[int, int]
) -> None:
    """By hand, as YOLO's own code has it: scale = min of the quotients, sides rounded, an odd pixel behind."""
    assert within(size, target) == fits
    assert border(fits, target, False) == corner
    image = Preprocess(target, letterbox=7).pixels(np.full((*size, 3), 200, np.uint8))
    seen = (image == 200).all(2)
    assert np.argwhere(seen)[0].tolist() == [*corner]
    assert (seen.any(1).sum(), seen.any(0).sum(), seen.sum()) == (*fits, fits[0] * fits[1])
    assert set(np.unique(image)) <= {7, 200}


def test_blue_comes_first() -> None:
    image = noise(9, 7, 3)
    there = Preprocess((5, 6), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    back = Preprocess((5, 6), mean=(0.3, 0.2, 0.1), std=(0.7, 0.6, 0.5), bgr=True)
    np.testing.assert_array_equal(back(image), there(image)[::-1])
    np.testing.assert_array_equal(
        Preprocess((5, 6), bgr=True, input="uint8-nhwc")(image), there.pixels(image)[..., ::-1]
    )


def test_grey_and_colour_as_pillow_converts_them() -> None:
    image = noise(20, 30, 4)
    np.testing.assert_array_equal(
        to_channels(image[:, :, :3], 1)[:, :, 0], np.asarray(Image.fromarray(image[:, :, :3]).convert("L"))
    )
    np.testing.assert_array_equal(to_channels(image, 3), np.asarray(Image.fromarray(image, "RGBA").convert("RGB")))
    grey = image[:, :, 0]
    np.testing.assert_array_equal(to_channels(grey, 3), np.asarray(Image.fromarray(grey).convert("RGB")))
    np.testing.assert_array_equal(to_channels(grey, 1), to_channels(grey[:, :, None], 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1), (9, 9, 3), (9, 9, 4)])
def test_every_kind_of_image_gives_the_networks_input(channels: int, shape: tuple[int, ...]) -> None:
    assert Preprocess((5, 6), channels)(noise(*shape)).shape == (channels, 5, 6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (noise(9, 9).astype(np.float32), r"float32 \[9, 9\]; uint8"),
        (noise(9, 9, 2), "2 channels"),
        (noise(9), r"uint8 \[9\]"),
        (noise(1, 3, 9, 9), r"uint8 \[1, 3, 9, 9\]"),
        (noise(0, 9, 3), r"uint8 \[0, 9, 3\]"),
        (noise(9, 9, 0), r"uint8 \[9, 9, 0\]"),
    ],
)
def test_what_is_no_image_is_refused(image: np.ndarray, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Preprocess((5, 5))(image)


def test_a_needle_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(BadInput, match="too long and thin"):
        Preprocess((224, 224), resize=256)(noise(1, 60000, 3))


def test_the_dictionary_round_trips() -> None:
    boxed = Preprocess((32, 48), letterbox=0, corner=True, bgr=True, interpolation="bicubic", antialias=False)
    assert boxed.to_dict().items() >= {"letterbox": 0, "corner": True, "bgr": True}.items()
    for settings_ in (IMAGENET, Preprocess((32, 32), 1), boxed, Preprocess((8, 8), interpolation="nearest")):
        assert Preprocess.from_dict(settings_.to_dict()) == settings_
    assert IMAGENET.to_dict() == {
        "size": [224, 224],
        "channels": 3,
        "resize": 256,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [224]}, "size"),
        ({"size": [0, 5]}, "size"),
        ({"size": [10**9, 10**9]}, "size"),
        ({"size": [1.5, 5]}, "size"),
        ({"size": [True, True]}, "size"),
        ({"size": "ab"}, "a list is needed"),
        ({"channels": 2}, "channels"),
        ({"channels": True}, "channels"),
        ({"channels": None}, "channels"),
        ({"resize": 100}, "resize 100; 224"),
        ({"resize": 10**9}, "resize"),
        ({"resize": "256"}, "resize"),
        ({"mean": [0.1, 0.2]}, "mean"),
        ({"mean": True}, "mean True; a number, or a list is needed"),
        ({"std": "1"}, "std '1'; a number, or a list is needed"),
        ({"std": 0}, "std"),
        ({"mean": [float("nan")]}, "mean"),
        ({"std": [0.0]}, "std"),
        ({"std": [-1.0]}, "std"),
        ({"std": []}, "std"),
        ({"std": ["1"]}, "std"),
        ({"letterbox": 114}, "letterbox and resize"),
        ({"letterbox": 256, "resize": None}, "letterbox 256; the grey level"),
        ({"letterbox": True, "resize": None}, "letterbox True; the grey level"),
        ({"corner": True}, "give letterbox too"),
        ({"corner": 1}, "corner 1; true or false"),
        ({"antialias": None}, "antialias None; true or false"),
        ({"interpolation": "cubic"}, "cubic: unknown preprocess interpolation; did you mean bicubic"),
        ({"interpolation": "lanczos"}, "lanczos: unknown preprocess interpolation"),
        ({"white": 100}, "white 100; a whole number from 255 to 65535"),
        ({"bgr": "yes"}, "bgr 'yes'; true or false"),
        ({"bgr": True, "channels": 1, "mean": [0.5], "std": [0.5]}, "grey pictures have one channel"),
        ({"stdd": [1.0]}, "stdd: unknown preprocess setting; did you mean std"),
    ],
)
def test_a_wrong_dictionary_is_refused(change: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Preprocess.from_dict({**IMAGENET.to_dict(), **change})


def test_a_plain_number_is_one_for_all_channels() -> None:
    pixels = noise(8, 8, 3)
    for mean, std in ((0.5, 0.25), (0, 1), (0.5, [0.2, 0.3, 0.4])):
        found = Preprocess.from_dict({"size": [8, 8], "mean": mean, "std": std})
        levels = np.float32(pixels.transpose(2, 0, 1) / 255)
        expected = (levels - mean) / np.reshape(np.broadcast_to(std, 3), (3, 1, 1))
        np.testing.assert_allclose(found(pixels), expected, rtol=1e-5, atol=1e-5)
        assert Preprocess.from_dict(found.to_dict()) == found


def test_the_limits_themselves_are_allowed() -> None:
    assert Preprocess((224, 200), resize=224).resize == 224
    assert Preprocess((16384, 1), resize=16384).size == (16384, 1)
    with pytest.raises(BadInput, match="size"):
        Preprocess((16385, 1))


def test_at_another_size_the_centre_is_cut_out_where_it_was() -> None:
    stretched, cropped = Preprocess((224, 224), mean=(0.5,)), Preprocess((224, 224), resize=256, mean=(0.5,))
    assert stretched.at((320, 320)) == Preprocess((320, 320), mean=(0.5,))
    assert cropped.at((280, 280)) == Preprocess((280, 280), resize=320, mean=(0.5,))
    assert cropped.at((128, 128)).resize == 146
    for size in ((127, 127), (224, 256), (256, 224)):
        assert cropped.at(size) == Preprocess(size, mean=(0.5,)), "too small, or no square"


def test_the_defaults_only_scale_to_0_and_1() -> None:
    image = noise(4, 4, 3)
    np.testing.assert_array_equal(
        Preprocess((4, 4))(image), image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    )


@pytest.mark.parametrize("values", [{}, [], None, "x"])
def test_no_dictionary_is_refused(values: object) -> None:
    with pytest.raises(BadInput, match="at least `size`"):
        Preprocess.from_dict(values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [{}, {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, {"std": (0.5,)}]
)
def test_the_bounds_are_what_black_and_white_pixels_become(settings: dict[str, tuple[float, ...]]) -> None:
    made = Preprocess((4, 4), **settings)
    every = [made(np.full((4, 4, 3), grey, np.uint8)) for grey in range(256)]
    assert made.bounds == pytest.approx((min(v.min() for v in every), max(v.max() for v in every)), abs=1e-6)
