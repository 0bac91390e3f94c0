"""Numbers that a network answers become the pixels that they stand for, and pictures keep their size where they may."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtimes.base import BadInput
from runtimes.imaging.answered import OwnSize, in_own_size, is_picture, levels_of, pixels_of, range_of
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.shown import of_array

PLAIN = Preprocess((4, 6))
PHOTO = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize(
    "how",
    [
        PLAIN,
        replace(PLAIN, mean=(0.5,), std=(0.5,)),  # -1 to 1
        replace(PLAIN, std=(1 / 255,)),  # 0 to 255
        replace(PLAIN, bgr=True),
        replace(PLAIN, input="float32-nhwc"),
    ],
)
def test_a_network_that_changes_nothing_answers_the_picture_itself(how: Preprocess) -> None:
    own = in_own_size(how, None)
    assert np.array_equal(pixels_of(own(PHOTO), own), PHOTO)


def test_black_and_white_are_what_is_said() -> None:
    statistics = replace(PLAIN, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert range_of(statistics) == (0, 1)
    assert range_of(replace(statistics, answer_range=(-1, 1))) == (-1, 1)
    assert range_of(None) == (-1, 1)
    grey = np.float32([[[-2, 0], [1, 7]]])
    assert pixels_of(grey, replace(PLAIN, answer_range=(-1, 1))).tolist() == [[0, 128], [255, 255]]
    assert pixels_of(grey, replace(PLAIN, answer_range=(1, 0))).tolist() == [[255, 255], [0, 0]]
    assert pixels_of(np.uint8([[3, 200]]), PLAIN).tolist() == [[3, 200]]  # whole numbers are pixels


@pytest.mark.parametrize("ends", [(1, 1), (0,), (0, float("nan")), (0, True), 3])
def test_what_is_no_range_is_refused(ends: object) -> None:
    with pytest.raises(BadInput, match="answer_range"):
        Preprocess.from_dict({"size": (4, 6), "answer_range": ends})


def test_only_what_is_said_is_written() -> None:
    assert "answer_range" not in PLAIN.to_dict()
    said = replace(PLAIN, answer_range=(-1.0, 1.0))
    assert Preprocess.from_dict(said.to_dict()) == said


@pytest.mark.parametrize(
    ("sizes", "last", "shape"),
    [
        ((3, 4, 5), False, (4, 5, 3)),
        ((4, 5, 3), False, (4, 5, 3)),
        ((3, 4, 3), False, (4, 3, 3)),
        ((3, 4, 3), True, (3, 4, 3)),
        ((4, 5), False, (4, 5, 1)),
    ],
)
def test_channels_stand_where_they_can(sizes: tuple[int, ...], last: bool, shape: tuple[int, ...]) -> None:
    assert is_picture(sizes)
    ready = Preprocess((8, 8), input="float32-nhwc" if last else "float32")
    assert levels_of(np.zeros(sizes), ready).shape == shape


def test_what_is_no_picture() -> None:
    assert not is_picture((2, 4, 5))
    assert not is_picture((3,))
    assert not is_picture((3, 4, 5, 6))


def test_padding_goes_up_to_whole_steps_and_comes_off_again() -> None:
    own = in_own_size(PLAIN, 4)
    assert isinstance(own, OwnSize)
    ready = own(PHOTO)
    assert ready.shape == (3, 8, 10)  # 4 + 4, 6 + 4
    assert np.array_equal(ready[:, 5:, :7], np.repeat(ready[:, 4:5, :7], 3, axis=1))
    (shown,) = of_array("photo", PHOTO, own)
    assert np.array_equal(pixels_of(ready, own, shown.part()), PHOTO)
    twice = np.repeat(np.repeat(ready, 2, axis=1), 2, axis=2)
    assert pixels_of(twice, own, shown.part()).shape == (10, 14, 3)
    (array,) = of_array("floats", ready, own)  # of any size, as it is
    assert array.part() == (1, 1)
    assert np.array_equal(array.ready(), ready)
