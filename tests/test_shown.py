"""What a user feeds: files and arrays become images of the same names and values, or one line says what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
