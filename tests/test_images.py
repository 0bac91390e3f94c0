"""Image files become pixels, as Pillow decodes them, or one line that names the file."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn.data.images import read_mask
from runtimes.base import Array, BadInput, Unavailable
from runtimes.imaging import images
from runtimes.imaging.depth import PLAIN
from runtimes.imaging.images import look_at, picture_size, read_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
DEEP = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1200


def png(width: int, height: int) -> bytes:
    """A PNG that declares width x height and holds one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0\1\2\3")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def good_png(path: Path) -> bytes:
    Image.fromarray(RGB).save(path, "PNG")
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "gif", "jpg"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(read_image(path), expected)
    if suffix not in ("gif", "jpg"):  # the others keep every pixel
        assert np.array_equal(expected, RGB)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_netpbm_without_pillow_is_what_pillow_reads(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ppm"
    Image.fromarray(RGB).convert(mode).save(path)
    with_pillow = read_image(path)
    head, width, rest = path.read_bytes().partition(b"9")
    assert width == b"9"
    path.write_bytes(head + b"# a comment with 12 345\n\t 9" + rest)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert np.array_equal(read_image(path), with_pillow)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"P6 2 2 255\n" + bytes(11), BadInput, "is damaged"),
        (b"P5 0 2 255\n", BadInput, "is damaged"),
        (b"P5 99999 99999 255\n1", BadInput, "the limit is 100,000,000"),
        (b"P5 2 2 65535\n" + bytes(7), BadInput, "is damaged"),
        (b"P5 2 2 65536\n" + bytes(8), Unavailable, "takes Pillow"),
        (b"P2 1 1 255\n7", Unavailable, "takes Pillow"),
        (b"P6" + b"#" * 9000, Unavailable, "takes Pillow"),
        (b"\x89PNG\r\n\x1a\n", Unavailable, "takes Pillow; `pip install pillow`"),
        (b"", BadInput, "is empty"),
    ],
)
def test_what_cannot_be_read_without_pillow(
    data: bytes, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.ppm").write_bytes(data)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(error, match=message):
        read_image(tmp_path / "a.ppm")


def modes() -> dict[str, tuple[Image.Image, Array]]:
    image = Image.fromarray(RGB)
    grey = image.convert("L")
    return {
        "grey": (grey, np.asarray(grey)),
        "black and white": (grey.convert("1"), np.asarray(grey.convert("1").convert("L"))),
        "grey with alpha": (grey.convert("LA"), np.asarray(grey)),
        "alpha": (image.convert("RGBA"), RGB),
        "palette": (image.quantize(16), np.asarray(image.quantize(16).convert("RGB"))),
        "16-bit grey": (Image.fromarray(DEEP), DEEP),
    }


@pytest.mark.parametrize("mode", modes())
def test_modes(tmp_path: Path, mode: str) -> None:
    image, expected = modes()[mode]
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), expected)


def test_the_suffix_may_lie(tmp_path: Path) -> None:
    good_png(tmp_path / "a.jpg")
    assert np.array_equal(read_image(tmp_path / "a.jpg"), RGB)


def oriented(pixels: Array, orientation: int) -> Array:
    """What a viewer shows of stored `pixels`, by the table of the EXIF standard: where row 0 and column 0 stand."""
    turned = np.swapaxes(pixels, 0, 1) if orientation in (5, 6, 7, 8) else pixels
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return turned[::rows, ::columns]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("RGB", "png"), ("I;16", "png"), ("L", "tif"), ("RGB", "tif"), ("I;16", "tif"), ("P", "tif")],
)
def test_exif_orientation_is_applied(mode: str, suffix: str, orientation: int, tmp_path: Path) -> None:
    image = {"I;16": Image.fromarray(DEEP), "P": Image.fromarray(RGB).quantize(16)}.get(mode)
    image = image or Image.fromarray(RGB).convert(mode)
    save_turned(image, tmp_path / f"a.{suffix}", orientation)
    expected = oriented(np.asarray(image.convert("RGB") if mode == "P" else image), orientation)
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), expected)
    assert picture_size(tmp_path / f"a.{suffix}") == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_exif_orientation_of_jpeg(mode: str, orientation: int, tmp_path: Path) -> None:
    Image.fromarray(RGB).convert(mode).save(tmp_path / "plain.jpg")
    with Image.open(tmp_path / "plain.jpg") as stored:
        expected = oriented(np.asarray(stored), orientation)
    save_turned(Image.fromarray(RGB).convert(mode), tmp_path / "a.jpg", orientation)
    assert np.array_equal(read_image(tmp_path / "a.jpg"), expected)
    assert picture_size(tmp_path / "a.jpg") == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_masks_stand_as_their_pictures_do(suffix: str, orientation: int, tmp_path: Path) -> None:
    classes = RGB[:, :, 0] % 5
    save_turned(Image.fromarray(classes), tmp_path / f"a.{suffix}", orientation)
    assert np.array_equal(read_mask(tmp_path / f"a.{suffix}"), oriented(classes, orientation))


def save_turned(image: Image.Image, path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


@pytest.mark.parametrize(
    ("name", "make", "complaint"),
    [
        ("empty.png", lambda p: b"", "is empty"),
        ("text.jpg", lambda p: b"hello", "is not an image or is damaged"),
        ("cut.png", lambda p: good_png(p)[:60], "is not an image or is damaged"),
        ("bomb.png", lambda p: png(60_000, 60_000), "declares far more than 100,000,000 pixels"),
        ("big.png", lambda p: png(11_000, 11_000), "has 11000 x 11000 pixels, the limit is 100,000,000"),
        ("code.eps", lambda p: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unknown format"),
    ],
)
def test_files_that_are_no_images(tmp_path: Path, name: str, make: object, complaint: str) -> None:
    path = tmp_path / name
    path.write_bytes(make(path))  # type: ignore[operator]
    with pytest.raises(BadInput) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)


def test_floating_point_pictures_have_no_white_level(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 3), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(BadInput, match="no known white level"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("kind", [np.int8, np.dtype("<i2"), np.dtype(">i2"), np.int32])
def test_signed_pixels_are_refused(kind: np.dtype, tmp_path: Path) -> None:
    """Hounsfield units: air is -1000, which 16 bits without a sign read as 64536."""
    pixels = np.array([[-100, -1, 0], [1, 40, 100]], kind)
    (tmp_path / "a.tif").write_bytes(signed_tiff(pixels))
    for read in (read_image, read_mask, picture_size):
        with pytest.raises(BadInput, match=rf"a.tif: has signed {8 * pixels.itemsize}-bit pixels, .*; save it as uint"):
            read(tmp_path / "a.tif")
    assert look_at(tmp_path / "a.tif") == PLAIN


def signed_tiff(pixels: Array) -> bytes:
    """A TIFF of one strip, grey, with SampleFormat 2: whole numbers with a sign; in the byte order of `pixels`."""
    order = ">" if pixels.dtype.str[0] == ">" else "<"
    height, width = pixels.shape
    data = pixels.tobytes()
    short = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 339: 2}
    entries = {**short, 279: len(data)}
    body = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, entries[tag], 0) for tag in sorted(entries))
    head = struct.pack(f"{order}2sHI", b"MM" if order == ">" else b"II", 42, 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(entries)) + body + struct.pack(f"{order}I", 0)


def test_a_named_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadInput, match="is a pipe"):
        read_image(tmp_path / "a.png")


def test_the_size_is_asked_before_a_pixel_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big.png").write_bytes(png(11_000, 11_000))
    monkeypatch.setattr(images, "_pixels", lambda image: pytest.fail("decoded"))
    with pytest.raises(BadInput, match="has 11000 x 11000 pixels"):
        read_image(tmp_path / "big.png")
