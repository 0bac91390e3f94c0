"""What int8 costs where no labels say so: masks that lose a class, and answers that could not differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn.choosing import choose
from edgecnn.choosing.choose import Candidate, judged
from edgecnn.choosing.judge import Judge
from edgecnn.choosing.trial import Trial
from edgecnn.data.samples import Samples
from runtimes.base import Array, Tensors


def maps_of(*masks: Array) -> Samples:
    """Images of which the network `as_maps` answers with the `masks` (H, W)."""
    shown = [np.asarray(mask, np.float32)[None] for mask in masks]
    return Samples("drawn", tuple(map(str, range(len(shown)))), lambda i: shown[i])


def as_maps(lost: int = -1) -> Any:
    """A network that answers every pixel with the class that it shows, but never with the class `lost`."""

    def run(feeds: Tensors) -> Tensors:
        shown = np.asarray(feeds["x"])
        scores = np.concatenate([shown == c for c in range(3)], axis=1).astype(np.float32)
        scores[:, 0] += 0.5
        scores[:, lost] *= 1 if lost < 0 else 0
        return {"logits": scores}

    return run


def spots(side: int = 12, cls: int = 1) -> Array:
    mask = np.zeros((128, 128))
    mask[40 : 40 + side, 40 : 40 + side] = cls
    return mask


def test_a_class_that_int8_loses_is_over_the_budget_however_few_its_pixels() -> None:
    """0.9 % of the pixels: as a share of them it would be within the budget of 1 %."""
    about = Trial(maps_of(spots(), spots(), spots(), spots(0)), "x", task="segmentation")
    judge = Judge(as_maps(), about)  # type: ignore[arg-type]
    lost = judge(as_maps(lost=1))
    assert (spots() > 0).mean() < 0.01 < lost.drop
    assert (judge.alike, lost.agreement) == ("", 1 - lost.drop)
    assert lost.words == (
        "loses 50.3 % of the overlap with the float graph's masks on 4 unlabelled images (budget 1.0 %)"
    )
    found = judged(Candidate("int8", 100, 1.0, kind="int8"), lost, about)
    assert found.refused == f"int8 {lost.words}"
    good = judged(found, judge(as_maps()), about)
    assert (
        choose._cost(Candidate("float", 400, 2.7), good, about)
        == "masks overlap the float graph's by 100.0 %, edges aside"
    )


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([spots(0)] * 3, "answers class 0 everywhere on all of the 3 images that judge it"),
        ([spots(128) * 0 + 2], "answers class 2 everywhere on the image that judges it"),
        ([spots(9), spots(0)], "answers class 0 everywhere but for 81 pixels on all of the 2 images that judge it"),
        ([spots(9), spots(9)], ""),
        ([spots(0), spots(128) * 0 + 2], ""),
        ([spots(9)[38:46, 38:46]], ""),  # too small for any class to have 100
    ],
)
def test_masks_of_one_class_prove_nothing(masks: list[Array], said: str) -> None:
    judge = Judge(as_maps(), Trial(maps_of(*masks), "x", task="segmentation"))  # type: ignore[arg-type]
    judge(as_maps())
    assert judge.alike == said


@pytest.mark.parametrize(("sigmoid", "value", "said"), [
    (False, -0.1, "says yes to no label on any of the 2 images that judge it"), (False, 0.1, ""),
    (True, 0.4, "says yes to no label on any of the 2 images that judge it"), (True, 0.6, ""),
])  # fmt: skip
def test_a_tagger_that_finds_nothing_proves_nothing(sigmoid: bool, value: float, said: str) -> None:
    def runner(feeds: Tensors) -> Tensors:
        return {"logits": np.array([[0.0, value, -9.0]], np.float32)}

    judge = Judge(runner, Trial(maps_of(spots(), spots()), "x", task="multi-label", sigmoid=sigmoid))  # type: ignore[arg-type]
    judge(runner)  # type: ignore[arg-type]
    assert judge.alike == said
