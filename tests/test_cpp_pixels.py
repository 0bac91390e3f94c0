"""The C++ header makes the numbers that `runtimes.imaging` makes, bit for bit; skipped where there is no compiler."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.data.pixels import read_preprocess
from runtimes.base import Array
from runtimes.imaging.geometry import UNSEEN, Geometry
from runtimes.imaging.maps import Seen, classes_of
from runtimes.imaging.preprocess import INPUTS, Preprocess
from runtimes.imaging.resampling import INTERPOLATIONS
from runtimes.proof.pixels import numbers_of

CPP = Path(__file__).resolve().parent.parent / "docs" / "cpp"
FLAGS = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
LIBRARY = r"""
#include <cstring>
#include "edgecnn_pixels.hpp"

using edgecnn::Settings;
using edgecnn::View;

struct Said {
    int height, width, channels, resize, letterbox, corner, bgr, antialias, white, means, deviations;
    double mean[3], deviation[3];
    const char *interpolation, *input;
};

static Settings settings(const Said& said) {
    Settings how;
    how.height = said.height, how.width = said.width, how.channels = said.channels, how.resize = said.resize;
    how.letterbox = said.letterbox, how.corner = said.corner, how.bgr = said.bgr, how.antialias = said.antialias;
    how.white = said.white, how.interpolation = said.interpolation, how.input = said.input;
    how.mean.assign(said.mean, said.mean + said.means);
    how.deviation.assign(said.deviation, said.deviation + said.deviations);
    return how;
}

template <class T>
static void made(const Settings& how, const View<T>& picture, void* out) {
    const auto put = [&](const auto& values) { std::memcpy(out, values.data(), values.size() * sizeof(values[0])); };
    how.floating() ? put(edgecnn::tensor(how, picture)) : put(edgecnn::pixels(how, picture));
}

extern "C" const char* make(const Said* said, const void* data, int deep, int height, int width, int channels,
                            long stride, int blue_first, void* out) try {
    if (deep) made(settings(*said), View<std::uint16_t>{static_cast<const std::uint16_t*>(data), height, width,
                                                        channels, stride, blue_first != 0}, out);
    else made(settings(*said), View<std::uint8_t>{static_cast<const std::uint8_t*>(data), height, width,
                                                  channels, stride, blue_first != 0}, out);
    return nullptr;
} catch (const std::exception& error) {
    static std::string line;
    return (line = error.what()).c_str();
}

extern "C" void boxes(const Said* said, int height, int width, float* box, int count) {
    const auto at = edgecnn::placement(settings(*said), height, width);
    for (int i = 0; i < count; ++i, box += 4) {
        const auto back = edgecnn::to_picture(at, edgecnn::Box{box[0], box[1], box[2], box[3]});
        box[0] = back.x1, box[1] = back.y1, box[2] = back.x2, box[3] = back.y2;
    }
}

extern "C" void mask(const Said* said, int height, int width, const float* scores, int classes, unsigned char* out) {
    const Settings how = settings(*said);
    const auto seen = edgecnn::classes_of(scores, classes, how.height, how.width);
    const auto back = edgecnn::to_picture(edgecnn::placement(how, height, width), seen.data(), how.height, how.width);
    std::memcpy(out, back.data(), back.size());
}
"""


class Said(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in (
            "height", "width", "channels", "resize", "letterbox", "corner", "bgr", "antialias", "white", "means",
            "deviations",
        )),
        ("mean", ctypes.c_double * 3), ("deviation", ctypes.c_double * 3),
        ("interpolation", ctypes.c_char_p), ("input", ctypes.c_char_p),
    ]  # fmt: skip

    @classmethod
    def of(cls, how: Preprocess) -> Said:
        return cls(
            *how.size, how.channels, how.resize or 0, -1 if how.letterbox is None else how.letterbox, how.corner,
            how.bgr, how.antialias, how.white or 65535, len(how.mean), len(how.std), how.mean, how.std,
            how.interpolation.encode(), how.input.encode(),
        )  # fmt: skip


def compiled(source: Path, made: Path, *flags: str) -> Path:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler: neither g++ nor clang++ is installed")
    command = [compiler, *FLAGS, *flags, "-I", str(CPP), str(source), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("cpp")
    (folder / "library.cpp").write_text(LIBRARY)
    found = ctypes.CDLL(str(compiled(folder / "library.cpp", folder / "library.so", "-shared", "-fPIC")))
    found.make.restype = ctypes.c_char_p
    return found


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(CPP / "example.cpp", tmp_path_factory.mktemp("cpp") / "example")


def by_cpp(library: ctypes.CDLL, how: Preprocess, image: Array, blue_first: bool = False) -> Array:
    """Of an `image` whose rows may lie apart in memory."""
    channels = image.shape[2] if image.ndim == 3 else 1
    made = np.empty(how.shape, how.dtype)
    error = library.make(
        ctypes.byref(Said.of(how)), ctypes.c_void_p(image.ctypes.data), int(image.dtype == np.uint16), *image.shape[:2],
        channels, ctypes.c_long(image.strides[0] // image.itemsize), int(blue_first), ctypes.c_void_p(made.ctypes.data),
    )  # fmt: skip
    if error is not None:
        raise ValueError(error.decode())
    return made


def pictures(seed: int, count: int, most: int = 90) -> list[Array]:
    """Of odd sizes and every kind, half of them smooth, as cubics overshoot at hard edges only."""
    rng, made = np.random.default_rng(seed), []
    for i in range(count):
        height, width = (int(side) for side in rng.integers(1, most, 2))
        shape = [(height, width), (height, width, 3), (height, width, 1), (height, width, 4)][i % 4]
        dtype, top = (np.uint16, 65536) if i % 5 == 4 else (np.uint8, 256)
        noise = rng.integers(0, top, shape)
        ramp = np.arange(noise.size).reshape(shape) * 37 // max(width, 1) % top
        made.append((noise if i % 2 else ramp).astype(dtype))
    return made


def same(library: ctypes.CDLL, how: Preprocess, image: Array) -> None:
    wanted, found = how(image), by_cpp(library, how, image)
    assert found.tobytes() == wanted.tobytes(), (
        how, image.shape, image.dtype, float(np.abs(found.astype(float) - wanted.astype(float)).max()),
    )  # fmt: skip


STATISTICS: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
WAYS = {
    "unit": Preprocess((31, 40)),
    "signed": Preprocess((40, 31), mean=(0.5,), std=(0.5,)),
    "imagenet": Preprocess((28, 28), resize=32, **STATISTICS),
    "crop of a rectangle": Preprocess((19, 28), resize=31, **STATISTICS),
    "yolo": Preprocess((32, 48), letterbox=114, antialias=False),
    "letterbox": Preprocess((48, 33), letterbox=7, **STATISTICS),
    "corner": Preprocess((33, 48), letterbox=114, corner=True, bgr=True, std=(1 / 255,)),
    "bicubic": Preprocess((31, 40), interpolation="bicubic"),
    "bicubic, one axis": Preprocess((20, 40), resize=None, interpolation="bicubic", antialias=False),
    "nearest": Preprocess((31, 40), interpolation="nearest"),
    "nearest, cropped": Preprocess((31, 31), resize=40, interpolation="nearest", antialias=False),
    "bgr": Preprocess((31, 40), bgr=True, **STATISTICS),
    "grey": Preprocess((31, 40), 1, mean=(0.1307,), std=(0.3081,)),
    "channels last": Preprocess((31, 40), input="float32-nhwc", **STATISTICS),
    "uint8": Preprocess((31, 40), input="uint8", **STATISTICS),
    "uint8, channels last": Preprocess((31, 40), letterbox=114, input="uint8-nhwc"),
    "white": Preprocess((31, 40), 1, white=4095, interpolation="bicubic"),
}


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
def test_it_makes_the_same_numbers(how: Preprocess, library: ctypes.CDLL) -> None:
    for image in pictures(1, 30):
        same(library, how, image)
        same(library, replace(how, antialias=not how.antialias), image)


def test_it_does_so_for_settings_at_random(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(2)
    for image in pictures(3, 300, most=200):
        height, width = (int(side) for side in rng.integers(1, 120, 2))
        channels, many = int(rng.choice([1, 3])), bool(rng.integers(2))
        fit: list[dict[str, Any]] = [
            {}, {"resize": max(height, width) + int(rng.integers(30))}, {"letterbox": int(rng.integers(256))},
            {"letterbox": 114, "corner": True},
        ]  # fmt: skip
        count = channels if many else 1
        how = Preprocess(
            (height, width), channels, mean=tuple(rng.random(count)), std=tuple(rng.random(count) + 0.01),
            interpolation=str(rng.choice(INTERPOLATIONS)), antialias=bool(rng.integers(2)),
            bgr=channels == 3 and bool(rng.integers(2)), input=str(rng.choice(INPUTS)),
            white=[None, 4095, 255][int(rng.integers(3))], **fit[int(rng.integers(len(fit)))],
        )  # fmt: skip
        same(library, how, image)


@pytest.mark.parametrize("preset", ["imagenet", "unit", "signed", "yolo", "raw", "caffe"])
@pytest.mark.parametrize("size", [(480, 640), (721, 1281)])
def test_pictures_of_cameras_through_the_presets(preset: str, size: tuple[int, int], library: ctypes.CDLL) -> None:
    how = read_preprocess(preset, (3, 224, 224))
    assert how is not None
    same(library, how, np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))


def test_a_part_of_a_larger_picture_and_blue_first(library: ctypes.CDLL) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    part = whole[7:40, 11:52]
    how = WAYS["imagenet"]
    assert by_cpp(library, how, part).tobytes() == how(part).tobytes()
    assert by_cpp(library, how, part, blue_first=True).tobytes() == how(part[:, :, ::-1]).tobytes()
    assert by_cpp(library, WAYS["bgr"], part, blue_first=True).tobytes() == WAYS["bgr"](part[:, :, ::-1]).tobytes()


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
def test_the_pixels_in_a_manifest_are_found_as_the_page_says(how: Preprocess, library: ctypes.CDLL) -> None:
    shape = (61, 97, how.channels)
    seen = [(7 * y + 11 * x + 3 * x * y // 16 + 80 * c) % 256 for y, x, c in np.ndindex(shape)]
    image = np.array(seen, np.uint8).reshape(shape)
    given = by_cpp(library, how, image if how.white is None else image.astype(np.uint16) ** 2).reshape(-1)
    kept = [float(given[i * (given.size - 1) // 31]) for i in range(32)]
    np.testing.assert_allclose(kept, numbers_of(how), atol=1e-6)


PLACED = [WAYS[name] for name in ("unit", "imagenet", "crop of a rectangle", "yolo", "letterbox", "corner")]


@pytest.mark.parametrize("how", PLACED, ids=str)
def test_boxes_and_masks_come_back_to_the_same_places(how: Preprocess, library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(4)
    high, wide = how.size
    for _ in range(40):
        height, width = (int(side) for side in rng.integers(1, 120, 2))
        geometry = Geometry.of(how, (height, width))
        boxes = rng.uniform(-5, 60, (9, 4)).astype(np.float32)
        found = boxes.copy()
        library.boxes(ctypes.byref(Said.of(how)), height, width, ctypes.c_void_p(found.ctypes.data), len(found))
        assert found.tobytes() == geometry.boxes_to_image(boxes).tobytes()
        scores = rng.integers(0, 3, (5, high, wide)).astype(np.float32)  # many are equal: the first counts
        mask = np.empty((height, width), np.uint8)
        library.mask(
            ctypes.byref(Said.of(how)), height, width, ctypes.c_void_p(scores.ctypes.data), 5,
            ctypes.c_void_p(mask.ctypes.data),
        )  # fmt: skip
        np.testing.assert_array_equal(mask, geometry.mask_to_image(classes_of(scores, Seen(how.size)).astype(np.uint8)))
        assert how.resize is None or height == width or UNSEEN in mask or min(height, width) < 3


@pytest.mark.parametrize(
    ("change", "shape", "line"),
    [
        ({}, (9, 9, 2), "picture: 1, 3 or 4 channels"),
        ({"resize": 40}, (1, 60000, 3), "picture: is too long and thin, crop it"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    change: dict[str, Any], shape: tuple[int, ...], line: str, library: ctypes.CDLL
) -> None:
    with pytest.raises(ValueError, match=f"^edgecnn: {line}$"):
        by_cpp(library, replace(WAYS["unit"], **change), np.zeros(shape, np.uint8))


# ---------------------------------------------------------------------------------------------------------- the example
def run(example: Path, picture: Path, *settings: str) -> tuple[int, bytes, str]:
    out = picture.with_suffix(".bin")
    done = subprocess.run([example, picture, out, *settings], capture_output=True, text=True, timeout=60)
    return done.returncode, out.read_bytes() if out.exists() else b"", done.stderr


def netpbm(path: Path, image: Array) -> Path:
    kind, deep = (b"P6" if image.ndim == 3 else b"P5"), image.dtype == np.uint16
    head = b"%s\n%d %d\n%d\n" % (kind, image.shape[1], image.shape[0], 65535 if deep else 255)
    path.write_bytes(head + (image.astype(">u2") if deep else image).tobytes())
    return path


def words(how: Preprocess) -> list[str]:
    """The settings of a manifest as the example takes them."""
    said = {key: value for key, value in how.to_dict().items() if value is not None}
    lists = {key: ",".join(map(repr, value)) for key, value in said.items() if isinstance(value, list)}
    switches = {key: str(value).lower() for key, value in said.items() if isinstance(value, bool)}
    return [f"{key}={value}" for key, value in {**said, **lists, **switches}.items()]


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
def test_the_example_writes_what_the_network_is_given(how: Preprocess, example: Path, tmp_path: Path) -> None:
    for i, image in enumerate(pictures(5, 6)):
        image = image[:, :, :3] if image.ndim == 3 and image.shape[2] > 1 else image.reshape(image.shape[:2])
        code, tensor, error = run(example, netpbm(tmp_path / f"{i}.ppm", np.ascontiguousarray(image)), *words(how))
        assert (code, error) == (0, "")
        assert tensor == how(image).tobytes()


@pytest.mark.parametrize(
    ("damage", "settings", "line"),
    [
        (lambda data: data[:-1], ["size=8,8"], "error: the picture is cut off"),
        (lambda data: b"P3" + data[2:], ["size=8,8"], "is no binary PGM or PPM"),
        (lambda data: data.replace(b"\n255\n", b"\n99\n"), ["size=8,8"], "a.ppm: its white is 99; say white="),
        (lambda data: data, ["sice=8,8"], "error: sice: unknown setting"),
        (lambda data: data, ["size=8"], "error: size=8: is not understood"),
        (lambda data: data, ["size=8,8", "white=x"], "error: white=x: is not understood"),
        (lambda data: data, ["bgr=true"], "error: edgecnn: size: height and width of the input are needed"),
        (lambda data: data, ["size=8,8", "interpolation=area"], "error: edgecnn: interpolation: area is unknown"),
    ],
)
def test_the_example_says_what_is_wrong(
    damage: Callable[[bytes], bytes], settings: list[str], line: str, example: Path, tmp_path: Path
) -> None:
    path = netpbm(tmp_path / "a.ppm", pictures(6, 2)[1])
    path.write_bytes(damage(path.read_bytes()))
    code, _, error = run(example, path, *settings)
    assert code == 2
    assert line in error
    assert error.count("\n") == 1
