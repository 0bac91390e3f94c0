"""Names of saved pictures never meet, and what cannot be seen is stretched to what can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtimes.base import BadInput
from runtimes.pictures import check_folder, colours, files_for, rgb


def test_inputs_of_one_name_are_numbered() -> None:
    names = ["x/a.png", "y/a.jpg", "a_2.png", "b.npy[0]", "b.npy[1]", "array 0", "..."]
    found = [group[0].name for group in files_for(Path("out"), names, "detection")]
    stems = ["a", "a_2", "a_2_2", "b.npy_0", "b.npy_1", "array_0", "input"]
    assert found == [f"{stem}.overlay.png" for stem in stems]
    assert [f.name for f in files_for(Path("o"), ["a.png"], "segmentation")[0]] == ["a.mask.png", "a.overlay.png"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match=r"file/out: cannot be made \(.*file: is no folder\); choose another folder"):
        check_folder(tmp_path / "file" / "out", [], False)
    check_folder(tmp_path / "a" / "b", [], False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "made only when there is something to put in"


def test_256_colours_are_different() -> None:
    assert len(np.unique(colours(), axis=0)) == 256
    assert colours()[255].tolist() == [224, 224, 192]


def test_pixels_of_all_kinds_as_rgb() -> None:
    grey = np.arange(6).reshape(2, 3).astype(np.uint8)
    assert np.array_equal(rgb(grey), np.stack([grey] * 3, axis=2))
    assert np.array_equal(rgb(grey[:, :, None]), np.stack([grey] * 3, axis=2))
    assert rgb(np.zeros((2, 3, 4), np.uint8)).shape == (2, 3, 3)
