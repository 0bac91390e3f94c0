"""Pictures of 16 bits keep their bits, their white level is known, and it is told where it cannot be the right one."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecnn import api, doubts
from edgecnn.cli import main
from edgecnn.data.load import load_data
from edgecnn.data.pixels import read_preprocess
from runtimes.base import Array, BadInput
from runtimes.imaging import piped
from runtimes.imaging.depth import Look, oddities
from runtimes.imaging.images import look_at, read_image
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.shown import of_array, of_file
from runtimes.proof.pixels import NEAR, numbers_of

WHITE = 4095
DEEP = np.random.default_rng(0).integers(0, WHITE + 1, (31, 47), np.uint16)
GREY = Preprocess((31, 47), 1, white=WHITE)


def saved(path: Path, pixels: Array = DEEP, maxval: int = 65535) -> Path:
    if path.suffix == ".pgm":
        kind, (height, width) = (b"P6" if pixels.ndim == 3 else b"P5"), pixels.shape[:2]
        path.write_bytes(b"%s\n%d %d\n%d\n" % (kind, width, height, maxval) + pixels.astype(">u2").tobytes())
    else:
        Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_every_bit_reaches_the_network(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / name)
    np.testing.assert_array_equal(read_image(path), DEEP)
    for white, most in ((None, 65535), (WHITE, WHITE)):
        ready = Preprocess((31, 47), 1, mean=(0.4,), std=(0.2,), white=white)
        (shown,) = of_file(path, ready, "net")
        want = (DEEP.astype(np.float64) / most - 0.4) / 0.2
        np.testing.assert_allclose(shown.ready()[0], want, atol=2e-6)
        np.testing.assert_array_equal(load_data(str(path), ready)[0], shown.ready())
        np.testing.assert_array_equal(shown.pixels(), np.rint(DEEP * (255 / most)).astype(np.uint8))
    assert len(np.unique(GREY(read_image(path)))) == len(np.unique(DEEP)) > 1000


def test_eight_bits_have_their_own_white(tmp_path: Path) -> None:
    pixels = (DEEP >> 4).astype(np.uint8)
    path = saved(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(GREY(read_image(path, WHITE))[0], pixels / np.float32(255))
    assert look_at(path, WHITE) == Look()


@pytest.mark.parametrize("shape", [(5, 31, 47), (5, 31, 47, 1), (5, 31, 47, 3), (5, 31, 47, 4)])
def test_arrays_of_uint16_are_pictures(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, WHITE + 1, shape, np.uint16)
    np.save(tmp_path / "a.npy", values.astype(">u2"))
    np.savez(tmp_path / "a.npz", x=values, y=np.arange(5))
    planes = values.reshape(*shape[:3], -1)[..., :3].astype(float) / WHITE
    grey = planes[..., 0] if planes.shape[-1] == 1 else planes @ [0.299, 0.587, 0.114]
    for name in ("a.npy", "a.npz"):
        samples = load_data(str(tmp_path / name), GREY)
        np.testing.assert_allclose(samples.stack()[:, 0], grey, atol=2e-5)
        assert samples.look(2) == Look(peak=int(values[2].max()))
    if shape[-1] == 1:  # of (H, W, 1) nobody knows that it is one picture
        return
    one = of_array("array", values[0], GREY)
    np.testing.assert_array_equal(one[0].ready(), samples[0])
    assert one[0].pixels().dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_network_of_colours_gets_them(channels: int) -> None:
    """Grey three times, and alpha is dropped."""
    deep = np.random.default_rng(2).integers(0, WHITE + 1, (7, 5, channels), np.uint16)
    found = Preprocess((7, 5), white=WHITE)(deep)
    want = np.broadcast_to(deep[:, :, :3], (7, 5, 3)).transpose(2, 0, 1) / WHITE
    np.testing.assert_allclose(found, want, atol=1e-6)
    back = Preprocess((7, 5), white=WHITE, bgr=True)(deep)
    np.testing.assert_array_equal(back, found[::-1])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(16, 24), (62, 70), (9, 90)])
def test_resizing_is_pillows_in_floats(size: tuple[int, int], interpolation: str) -> None:
    how = Preprocess(size, 1, white=WHITE, interpolation=interpolation)
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    picture = Image.fromarray((DEEP / WHITE).astype(np.float32))
    want = np.clip(np.asarray(picture.resize(size[::-1], resample)), 0, 1)
    np.testing.assert_allclose(how(DEEP)[0], want, atol=3e-6)  # a cubic overshoots, and is cut off at the end alone
    assert np.abs(how(DEEP)[0] * 255 - np.rint(how(DEEP)[0] * 255)).max() > 0.4, "nothing was rounded to 8 bits"


def test_a_network_that_takes_pixels_gets_rounded_ones() -> None:
    found = Preprocess((31, 47), 1, input="uint8", white=WHITE)(DEEP)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0], np.rint(DEEP * (255 / WHITE)))
    boxed = Preprocess((64, 64), 1, letterbox=114, white=WHITE)(DEEP)
    assert boxed[0, 0, 0] == np.float32(114) / np.float32(255), "a border is a level of 0..255"


def test_what_is_above_white_is_white() -> None:
    assert Preprocess((1, 3), 1, white=1000)(np.array([[500, 1000, 60000]], np.uint16))[0].tolist() == [[0.5, 1, 1]]
    for size in ((5, 9), (15, 3)):  # resized, too
        flat = Preprocess(size, 1, white=1000)(np.full((7, 4), 1000, np.uint16))
        np.testing.assert_allclose(flat, np.ones((1, *size)), rtol=1e-6)


@pytest.mark.parametrize("maxval", [300, WHITE, 65535])
def test_the_white_of_a_pgm_counts_where_none_is_set(maxval: int, tmp_path: Path) -> None:
    pixels = np.minimum(DEEP, maxval)
    path = saved(tmp_path / "a.pgm", pixels, maxval)
    np.testing.assert_allclose(Preprocess((31, 47), 1)(read_image(path))[0], pixels / maxval, atol=1e-5)
    np.testing.assert_allclose(GREY(read_image(path, WHITE))[0], pixels / WHITE, atol=1e-6)
    assert look_at(path) == (Look(peak=int(pixels.max())) if maxval == 65535 else Look())


def test_a_ppm_of_16_bits_is_read_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.pgm", np.dstack([DEEP] * 3))
    np.testing.assert_array_equal(read_image(path)[:, :, 1], DEEP)
    small = tmp_path / "b.pgm"
    small.write_bytes(b"P5 4 3 100\n" + bytes(range(89, 101)))
    with_pillow = read_image(small)
    monkeypatch.setitem(sys.modules, "PIL", None)
    np.testing.assert_array_equal(read_image(small), with_pillow)
    np.testing.assert_array_equal(read_image(path)[:, :, 1], DEEP)


def test_colour_of_16_bits_is_refused_where_white_is_not_the_largest(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" + b"\x0f\xff" * 3)) + chunk(b"IEND", b"")
    )
    assert read_image(tmp_path / "a.png").tolist() == [[[15, 15, 15]]]
    with pytest.raises(BadInput, match=r"a.png: has 16 bits and colour .*white 4095 needs all; save 16-bit grey"):
        read_image(tmp_path / "a.png", WHITE)


# ---------------------------------------------------------------------------------------------------------- the setting
@pytest.mark.parametrize("wrong", [0, -1, 254, 65536, 4095.0, "4095", True, [4095]])
def test_white_levels_that_make_no_sense(wrong: Any, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"white": wrong}))
    with pytest.raises(BadInput, match=r"p.json: preprocess: white .*; a whole number from 255 to 65535, or None"):
        read_preprocess(str(tmp_path / "p.json"), (1, 8, 8))


def test_it_is_written_only_where_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"white": 4095}')
    assert read_preprocess(str(tmp_path / "p.json"), (1, 31, 47)) == GREY
    assert "white" not in Preprocess((8, 8)).to_dict()
    assert Preprocess.from_dict(json.loads(json.dumps(GREY.to_dict()))) == GREY
    assert GREY.at((9, 9)).white == WHITE


def test_the_proof_of_pixels_knows_it() -> None:
    """It is found where another one is written into a manifest, also one that is hardly different."""
    for other in (None, 65535, WHITE + 16, 1023, 255):
        apart = np.subtract(numbers_of(GREY), numbers_of(Preprocess((31, 47), 1, white=other)))
        assert np.abs(apart).max() > 10 * NEAR


# --------------------------------------------------------------------------------------------------------- what is told
@pytest.mark.parametrize(
    ("peak", "white", "line"),
    [
        (4095, None, '4095, and white is 65535: they are nearly black; if 4095 is white, set "white": 4095 in'),
        (3000, None, 'is 3000, and white is 65535: they are nearly black; if 4095 is white, set "white": 4095 in'),
        (16384, None, ""),
        (16383, None, 'set "white": 16383'),
        (200, WHITE, 'if 255 is white, set "white": 255'),
        (90, WHITE, 'if 255 is white, set "white": 255'),
        (1024, 4096, ""),
        (1023, 4096, 'if 1023 is white, set "white": 1023'),
        (5000, WHITE, 'a: 16-bit values of up to 5000 are cut off at white, 4095; set "white": 5000 in'),
        (WHITE, WHITE, ""),
        (0, None, ""),
    ],
)
def test_a_white_that_cannot_be_right_is_told(peak: int, white: int | None, line: str) -> None:
    found = oddities("a", [Look(), Look(peak=0), Look(peak=peak)], white)
    assert (line in found[0]) if line else not found


def test_a_set_is_told_by_its_brightest_and_8_bits_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, most in enumerate((4000, 60000, 4000)):
        saved(tmp_path / f"{i}.png", np.full((4, 4), most, np.uint16))
    ready = Preprocess((4, 4), 1)
    assert not doubts.told(*doubts.of_data(load_data(str(tmp_path), ready), ready))
    (tmp_path / "1.png").unlink()
    (line,) = doubts.told(*doubts.of_data(load_data(str(tmp_path), ready), ready))
    assert line.startswith(f"{tmp_path}: the largest value of its 16-bit pictures is 4000")
    saved(tmp_path / "8.png", np.zeros((4, 4), np.uint8))
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    assert look_at(tmp_path / "8.png") == Look()


def test_two_pages_are_several() -> None:
    assert oddities("a", [Look()], None) == ()
    (line,) = oddities("a", [Look(frames=2)], None)
    assert line.startswith("a: has 2 pages, only the first is read")


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
def test_pages_that_are_not_read_are_told(suffix: str, tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 99, 255)]
    path = tmp_path / f"a.{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:], **({"lossless": True} if suffix == "webp" else {}))
    assert look_at(path) == Look(3)
    ready = Preprocess((8, 8), 1)
    (line,) = doubts.told(*doubts.of_data(load_data(str(path), ready), ready))
    assert line == f"{path}: has 3 pages, only the first is read; save each as a picture of its own"
    pages[1].save(tmp_path / f"b.{suffix}")
    (line,) = doubts.told(*doubts.of_data(load_data(str(tmp_path), ready), ready))
    assert line.startswith(f"{tmp_path}: has pictures of several pages (up to 3)")
    assert look_at(tmp_path / f"b.{suffix}") == Look()


def test_what_cannot_be_read_is_told_by_whoever_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert look_at(tmp_path / "a.png") == look_at(tmp_path / "none.png") == Look()


# ------------------------------------------------------------------------------------------------------- the whole road
@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of one network: with the right white level and with none, and pictures of 12 bits in 16."""
    place = tmp_path_factory.mktemp("deep")
    (place / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Sequential):\n    input_shape = (1, 16, 16)\n"
        '    preprocess = {"mean": [0.4], "std": [0.2], "white": 4095}\n\n    def __init__(self):\n'
        "        torch.manual_seed(0)\n"
        "        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)\n"
        "        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), *head)\n"
    )
    (place / "plain.json").write_text('{"mean": [0.4], "std": [0.2]}')
    (place / "photos").mkdir()
    for i in range(8):
        saved(place / "photos" / f"{i}.png", np.random.default_rng(i).integers(0, WHITE + 1, (20, 24), np.uint16))
    for name, how in (("right", None), ("plain", str(place / "plain.json"))):
        report = api.build(
            f"{place / 'net.py'}:Net", place / f"{name}.edge", calib=str(place / "photos"), preprocess=how,
            search_budget=0, max_drop=1, allow_slower=True,
        )  # fmt: skip
        told = [line for line in report.warnings if "nearly black" in line]
        assert len(told) == (name == "plain"), report.warnings
    return place


def test_a_bundle_on_the_device_answers_alike(bundles: Path) -> None:
    picture, path = bundles / "photos" / "1.png", bundles / "right.edge"
    ours = api.run(path, picture)
    assert not ours.warnings
    done = subprocess.run(
        [sys.executable, str(path), "run", str(picture), "--json"], capture_output=True, text=True, cwd=bundles
    )
    theirs = json.loads(done.stdout)
    assert json.loads(json.dumps(ours.to_dict()))["predictions"] == theirs["predictions"]
    assert main(["verify", str(path)]) == 0
    assert ours.classes[0].top != api.run(bundles / "plain.edge", picture).classes[0].top


def test_run_tells_of_a_white_that_is_not_set(bundles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = bundles / "photos" / "1.png"
    assert main(["run", str(bundles / "plain.edge"), str(picture)]) == 0
    assert 'they are nearly black; if 4095 is white, set "white": 4095' in capsys.readouterr().err
    array = np.asarray(Image.open(picture))
    (line,) = api.run(bundles / "plain.edge", array).warnings
    assert line.startswith("array 0: the largest value")
    assert not api.run(bundles / "plain.edge", (array * 16).astype(np.uint16)).warnings


def test_a_picture_from_standard_input_keeps_its_bits(
    bundles: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Stream:
        buffer = io.BytesIO((bundles / "photos" / "1.png").read_bytes())

    Stream.buffer.isatty = lambda: False  # type: ignore[method-assign]
    monkeypatch.setattr(piped.sys, "stdin", Stream)
    found = api.run(bundles / "right.edge", "-")
    assert found.classes[0].top == api.run(bundles / "right.edge", bundles / "photos" / "1.png").classes[0].top
