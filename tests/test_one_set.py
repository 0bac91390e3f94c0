"""Images given twice are one set however they are spelled, and never judge what they calibrated."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn.data.data_argument import given
from edgecnn.data.material import Material, material_for
from edgecnn.data.one_set import both, is_one
from edgecnn.data.samples import Samples
from small_nets import conv_net

RNG = np.random.default_rng(8)
FLOATS = RNG.standard_normal((50, 3, 8, 8)).astype(np.float32)
LABELS = np.arange(50) % 10


@pytest.fixture(autouse=True)
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fold` of 50 pictures in ten classes, a `link` to it and a copy; `a.npz`, a copy of it, another of its size."""
    monkeypatch.chdir(tmp_path)
    for i in range(50):
        path = Path("fold", "abcdefghij"[i % 10], f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    os.symlink("fold", "link")
    shutil.copytree("fold", "fold_copy")
    np.savez("a.npz", x=FLOATS, y=LABELS)
    shutil.copy("a.npz", "b.npz")
    np.savez("c.npz", x=FLOATS + 1, y=LABELS)


def material(calib: object, data: object, limit: int = 16) -> Material:
    return material_for(conv_net(), None, calib, data, limit, 0)  # type: ignore[arg-type]


def pixels(samples: Samples) -> set[bytes]:
    return {image.tobytes() for image in samples.stack()}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("fold", "fold/"),
        ("./fold", "fold"),
        ("fold", "ABSOLUTE/fold"),
        ("fold", "link"),
        ("fold", "fold_copy"),
        ("a.npz", "./a.npz"),
        ("a.npz", "b.npz"),
    ],
)
def test_a_set_is_known_under_any_name(one: str, other: str) -> None:
    other = other.replace("ABSOLUTE", os.getcwd())
    assert is_one(one, other)
    assert is_one(other, one)
    found = material(one, other)
    assert (len(found.calibration), len(found.judged)) == (16, 10), "of four fifths 16 calibrate, and a fifth judges"
    assert not pixels(found.calibration) & pixels(found.judged)


@pytest.mark.parametrize(
    ("one", "other"), [("a.npz", "c.npz"), ("fold", "a.npz"), ("fold", "fold/a"), ("fold", "gone")]
)
def test_other_images_are_another_set(one: str, other: str) -> None:
    assert not is_one(one, other)
    assert both(one, other) == (one, other)


def test_built_in_data_is_known_by_its_name() -> None:
    assert both("digits", "digits") == ("digits", "digits")
    assert both("shapes:9", "shapes:8") == ("shapes:9", "shapes:8")
    assert both("a.npz", None) == ("a.npz", None)


def test_arrays_are_compared_by_their_numbers_and_split_by_the_labels_of_data() -> None:
    seen, judge = both(FLOATS, (FLOATS.copy(), LABELS))
    assert seen is judge
    assert not isinstance(judge, str)
    assert judge is not None
    assert judge.labels is LABELS
    assert is_one(given({"x": FLOATS, "y": LABELS}), given({"x": FLOATS.copy(), "y": LABELS[::-1].copy()}))
    assert is_one(given({"x": FLOATS, "y": LABELS}), given(FLOATS.copy()))
    assert not is_one(given({"x": FLOATS, "z": FLOATS}), given(FLOATS.copy()))
    assert not is_one(given({"x": FLOATS, "z": FLOATS}), given({"x": FLOATS.copy(), "z": FLOATS + 1}))
    changed = FLOATS.copy()
    changed[7, 0, 0, 0] += 1
    for other in (FLOATS[:40], FLOATS.astype(np.float64), changed):
        seen, judge = both(FLOATS, other)
        assert seen != judge


def test_of_two_sets_with_images_in_common_none_judges_that_calibrated() -> None:
    """A part of a set, in another file: 16 of its 50 images calibrate, of the 45 given to judge the others do."""
    used = material("a.npz", (FLOATS[:45], LABELS[:45]))
    calibrated = pixels(used.calibration)
    shared = sum(image.tobytes() in calibrated for image in FLOATS[:45])
    assert 0 < shared == used.left_out
    assert not calibrated & pixels(used.judged)
    assert used.judged_on == f"{45 - shared} labelled images of data array ({shared} that calibrated left out)"
    assert used.judged.labels is not None
    by_image = dict(zip((image.tobytes() for image in FLOATS), LABELS, strict=True))
    assert [by_image[image.tobytes()] for image in used.judged.stack()] == used.judged.labels.tolist()
