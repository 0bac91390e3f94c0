"""Names of saved pictures never meet, and what cannot be seen is stretched to what can."""

from __future__ import annotations

import colorsys
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtimes.base import BadInput
from runtimes.imaging.named import check_folder
from runtimes.imaging.pictures import colour_of, colours, files_for, rgb, save_boxes
from runtimes.proof.answers import Box, BoxesPrediction

LABELS = ("circle", "square", "triangle", "a long name")


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


def boxes_drawn(tmp_path: Path, size: tuple[int, int], *boxes: Box) -> np.ndarray:
    """The overlay (H, W, 3) of `boxes` on a black image of `size` (H, W)."""
    found = BoxesPrediction("a", boxes)
    save_boxes(found, np.zeros((*size, 3), np.uint8), [tmp_path / "o.png"], LABELS)
    return np.asarray(Image.open(tmp_path / "o.png"))


def test_a_class_has_one_colour_in_all_pictures(tmp_path: Path) -> None:
    """Whatever else is in the picture."""
    square, other = Box("square", 0.9, (40, 60, 90, 90)), Box("circle", 0.8, (5, 60, 30, 90))
    alone, both = boxes_drawn(tmp_path, (100, 100), square), boxes_drawn(tmp_path, (100, 100), square, other)
    assert tuple(alone[89, 65]) == tuple(both[89, 65]) == colour_of("square", LABELS)
    assert tuple(both[89, 15]) == colour_of("circle", LABELS)


def test_classes_are_told_apart_by_hue() -> None:
    labels = [str(i) for i in range(20)]
    hues = sorted(colorsys.rgb_to_hsv(*(part / 255 for part in colour_of(label, labels)))[0] for label in labels)
    assert min(b - a for a, b in itertools.pairwise(hues)) > 0.02
    assert colour_of("7", ()) == colour_of("7", ()) != colour_of("8", ())


def test_lines_and_letters_grow_with_the_picture(tmp_path: Path) -> None:
    small = boxes_drawn(tmp_path, (96, 96), Box("square", 0.9, (20, 40, 70, 90)))
    large = boxes_drawn(tmp_path, (960, 960), Box("square", 0.9, (200, 400, 700, 900)))
    colour = colour_of("square", LABELS)
    widths = [int((drawn[y, : drawn.shape[1] // 2] == colour).all(1).sum()) for drawn, y in ((small, 65), (large, 650))]
    assert widths == [1, 4]


@pytest.mark.parametrize("corner", [(70, 2), (-9, 50), (60, 97), (0, 0)])
def test_a_caption_lies_inside_the_picture_and_can_be_read(tmp_path: Path, corner: tuple[int, int]) -> None:
    """At the right border it is moved to the left, at the upper one it hangs inside the box."""
    x, y = corner
    drawn = boxes_drawn(tmp_path, (100, 100), Box("a long name", 0.5, (x, y, x + 30, y + 3)))
    ground = (drawn == colour_of("a long name", LABELS)).all(2)
    columns = np.flatnonzero(ground.sum(0) > 4)
    letters = (drawn[ground.any(1)][:, columns] < 90).all(2)
    assert len(columns) > 50
    assert letters.sum() > 30
