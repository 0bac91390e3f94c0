"""What a user feeds: files and arrays become images of the same names and values, or one line says what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecnn.data.load import from_array
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.shown import of_array, of_file, takes

READY = Preprocess((8, 8), 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def test_files_of_arrays_are_their_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", PIXELS)
    np.savez(tmp_path / "two.npz", x=np.stack([PIXELS, PIXELS[:, ::-1]]), y=np.array([1, 2]))
    (tmp_path / "a.ppm").write_bytes(b"P6\n30 20\n255\n" + PIXELS.tobytes())
    files = [tmp_path / name for name in ("one.npy", "two.npz", "a.ppm")]
    found = [image for file in files for image in of_file(file, READY, "net")]
    one, two = str(files[0]), str(files[1])
    assert [image.name for image in found] == [one, f"{two}[0]", f"{two}[1]", str(files[2])]
    assert [np.array_equal(image.ready(), READY(PIXELS)) for image in found] == [True, True, False, True]
    assert np.array_equal(found[2].ready(), READY(np.ascontiguousarray(PIXELS[:, ::-1])))
    assert [image.geometry().image for image in found] == [(20, 30)] * 4
    assert all(image.pixels().shape == (20, 30, 3) for image in found)


def test_a_ready_array_answers_in_the_networks_own_pixels() -> None:
    (image,) = of_array("array", READY(PIXELS), READY)
    assert (image.name, image.geometry().image) == ("array", (8, 8))
    assert image.pixels().dtype == np.uint8
    assert (image.pixels().min(), image.pixels().max()) == (0, 255)


def test_a_network_without_pictures_takes_arrays_of_its_shape(tmp_path: Path) -> None:
    (image,) = of_array("a", np.arange(4.0).reshape(1, 4), (4,))
    assert image.ready().tolist() == [0, 1, 2, 3]
    assert image.ready().dtype == np.float32
    assert takes(Path("a.NPY"))
    assert not takes(Path("a.txt"))
    with pytest.raises(BadInput, match=r"a.png: is a picture; net.edge takes \[N, 4\], no pictures; give float arrays"):
        of_file(tmp_path / "a.png", (4,), "net.edge")
    with pytest.raises(BadInput, match=r"a.txt: unknown kind of data; .npy and .npz files are read"):
        of_file(tmp_path / "a.txt", (4,), "net.edge")


def test_what_is_no_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "y.npz", y=np.zeros(3))
    with pytest.raises(BadInput, match=r"y\.npz: holds y; name the images `x`"):
        of_file(tmp_path / "y.npz", READY, "net")
    with pytest.raises(BadInput, match="is a folder; give the files in it"):
        of_file(tmp_path, READY, "net")
    with pytest.raises(BadInput, match=r"a\.txt: unknown kind of data; pictures and \.npy or \.npz files are read"):
        of_file(tmp_path / "a.txt", READY, "net")
    with pytest.raises(BadInput, match=r"a: is float64 \[2, 3, 9, 9\]; this network needs float \[N, 3, 8, 8\] or"):
        of_array("a", np.zeros((2, 3, 9, 9)), READY)
    (image,) = of_array("a", np.full((3, 8, 8), np.nan), READY)
    with pytest.raises(BadInput, match="a: holds NaN or infinity"):
        image.ready()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_picture_with_its_axis_is_one_picture(dtype: type[np.unsignedinteger], tmp_path: Path) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (20, 30)).astype(dtype)
    for ready in (READY, Preprocess((8, 8), 1)):
        (image,) = of_array("a", grey[:, :, None], ready)
        assert (image.name, image.geometry().image, image.doubt) == ("a", (20, 30), "")
        assert np.array_equal(image.ready(), ready(grey))
        assert np.array_equal(image.pixels().squeeze(), of_array("a", grey, ready)[0].pixels())
    np.save(tmp_path / "a.npy", grey[:, :, None])
    (image,) = of_file(tmp_path / "a.npy", READY, "net")
    assert np.array_equal(image.ready(), READY(grey))
    (image,) = of_array("a", grey[None, :, :, None], READY)
    assert image.name == "a[0]"


def test_pictures_of_one_column_are_a_stack_where_the_network_takes_such() -> None:
    column = Preprocess((16, 1), 1)
    rows = np.arange(48, dtype=np.uint8).reshape(3, 16, 1)
    assert [image.ready().ravel().tolist() for image in of_array("a", rows, column)] == [
        column(row).ravel().tolist() for row in rows
    ]


@pytest.mark.parametrize("shape", [(120, 160, 2), (9, 9, 5), (99, 8, 7)])
def test_an_axis_that_is_neither_width_nor_channels_is_refused(shape: tuple[int, int, int]) -> None:
    line = rf"^a: is uint8 \[{', '.join(map(str, shape))}\], and no picture is {shape[2]} wide; give \(H, W\) or \(H"
    with pytest.raises(BadInput, match=line):
        of_array("a", np.zeros(shape, np.uint8), READY)
    (*_, last) = of_array("a", np.zeros((*shape, 1), np.uint8), READY)  # said in full it is a stack
    assert last.name == f"a[{shape[0] - 1}]"


@pytest.mark.parametrize("shape", [(120, 160, 3), (120, 160, 1), (120, 160, 2)])
def test_one_picture_is_no_set_of_them(shape: tuple[int, int, int]) -> None:
    with pytest.raises(BadInput, match=rf"^x: is uint8 .*no picture is {shape[2]} wide; give \(N, H, W\) or \(N"):
        from_array("x", np.zeros(shape, np.uint8), READY)


@pytest.mark.parametrize("shape", [(99, 8, 8), (99, 7, 5), (5, 28, 28), (2, 480, 640)])
def test_stacks_of_small_grey_pictures_are_stacks(shape: tuple[int, int, int]) -> None:
    for ready in (READY, Preprocess((8, 8), 1), Preprocess((8, 6), 1)):
        found = of_array("a", np.zeros(shape, np.uint8), ready)
        assert (len(found), found[0].geometry().image, found[0].doubt) == (shape[0], shape[1:], "")
        assert len(from_array("x", np.zeros(shape, np.uint8), ready)) == shape[0]
    narrow = np.zeros((99, 12, 6), np.uint8)
    assert len(of_array("a", narrow, Preprocess((8, 6), 1))) == len(narrow)


@pytest.mark.parametrize(("count", "greys"), [(1, "1 grey picture"), (3, "3 grey pictures")])
def test_channels_that_come_first_are_told_where_colour_is_wanted(count: int, greys: str) -> None:
    stack = np.zeros((count, 48, 64), np.uint8)
    found = of_array("a", stack, READY)
    line = f"a: taken as {greys} of 48 x 64; a colour picture is (H, W, 3)"
    assert [image.doubt for image in found] == [line] * count
    assert all(image.doubt == "" for image in of_array("a", stack, Preprocess((8, 8), 1)))
    assert all(image.doubt == "" for image in of_array("a", stack[:, :7], READY))
    assert all(image.doubt == "" for image in of_array("a", np.zeros((count, 8, 8, 3), np.uint8), READY))
