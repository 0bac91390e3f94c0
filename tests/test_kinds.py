"""Boxes beside scores in one output: each kind of numbers is compared by itself, and the worst decides."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.choosing.judge import Judge
from edgecnn.choosing.trial import Trial
from edgecnn.data.samples import Samples
from runtimes.base import Array, Tensors
from runtimes.comparing.kinds import MOST_SLICES, KindSums
from runtimes.parity import ParityReport, compare
from runtimes.session import Session

RNG = np.random.default_rng(11)
BOXES, CLASSES, PLACES = 4, 6, 50


def head(images: int = 3) -> Array:
    """float32 (images, 4 + classes, places): pixels, then shares."""
    pixels = RNG.uniform(0, 640, (images, BOXES, PLACES))
    return np.concatenate([pixels, RNG.uniform(0, 1, (images, CLASSES, PLACES))], axis=1).astype(np.float32)


def noisy(value: Array, rows: slice, share: float) -> Array:
    """`value` with noise of `share` of the power of its channels `rows`."""
    changed = value.astype(np.float64)
    part = changed[:, rows]
    part += np.sqrt(share * np.mean(part**2)) * RNG.standard_normal(part.shape)
    return changed.astype(np.float32)


def parity(ref: Array, cand: Array, axes: tuple[int, ...] = (0, 1, 2)) -> ParityReport:
    feeds = [{"i": np.array([[i]])} for i in range(len(ref))]
    pick = lambda array: lambda feed: {"y": array[feed["i"][0, 0]][None].transpose(axes)}  # noqa: E731
    return compare(pick(ref), pick(cand), feeds)


@pytest.mark.parametrize(("axes", "axis"), [((0, 1, 2), 1), ((0, 2, 1), 2)], ids=["channels", "columns"])
def test_scores_that_are_noise_show_beside_boxes(axes: tuple[int, ...], axis: int) -> None:
    ref = head()
    report = parity(ref, noisy(ref, slice(BOXES, None), 0.5), axes)
    (out,) = report.outputs
    assert report.snr_db > 55, "all that a sum over everything sees are pixels"
    assert report.worst_db == out.worst_db == pytest.approx(3.0, abs=0.5)
    scores, boxes = out.kinds
    assert (scores.axis, scores.places, scores.words) == (axis, tuple(range(4, 10)), "channels 4 to 9")
    assert (boxes.places, boxes.words) == ((0, 1, 2, 3), "channels 0 to 3")
    assert out.worst_kind == scores
    shown = out.to_dict()["kinds"]
    assert [(kind["first"], kind["last"], kind["slices"]) for kind in shown] == [(4, 9, 6), (0, 3, 4)]
    assert shown[0]["snr_db"] == pytest.approx(report.worst_db)


def test_the_sums_of_the_kinds_are_those_of_the_whole() -> None:
    ref = head()
    (out,) = parity(ref, noisy(ref, slice(None), 0.01)).outputs
    want = 10 * np.log10(sum(kind.signal for kind in out.kinds) / sum(kind.noise for kind in out.kinds))
    assert out.snr_db == pytest.approx(want)


@pytest.mark.parametrize(
    "value",
    [
        head()[:, :BOXES],  # one kind
        head()[:, :, 0],  # logits
        head()[:, :, :, None],  # a map of features, whose channels may sleep
        np.zeros((2, 5, 7), np.float32),
        np.full((2, 5, 7), 3e38, np.float32),
        np.ones((2, 5, 7)) * np.array([1, 1, 1, 1, 1e200])[:, None],  # whose square no number holds
    ],
    ids=["boxes", "table", "map", "zeros", "huge", "beyond"],
)
def test_numbers_of_one_kind_are_one(value: Array) -> None:
    (out,) = parity(value, value, tuple(range(value.ndim))).outputs
    assert out.kinds == ()
    assert out.worst_kind is None
    assert out.worst_db == out.snr_db
    assert "kinds" not in out.to_dict()


def test_a_channel_of_zeros_counts_with_the_smallest_kind() -> None:
    ref = head()
    ref[:, 7] = 0
    cand = ref.copy()
    cand[:, 7] = 1
    (out,) = parity(ref, cand).outputs
    assert [kind.places for kind in out.kinds] == [(4, 5, 6, 7, 8, 9), (0, 1, 2, 3)]
    assert out.worst_db < 10


def test_channels_that_do_not_lie_together_are_counted() -> None:
    ref = head()[:, [0, 4, 1, 5, 6, 2]]
    (out,) = parity(ref, ref).outputs
    assert [kind.words for kind in out.kinds] == ["3 channels from 1 to 4", "3 channels from 0 to 5"]
    one = head()[:, [0, 1, 4]]
    assert parity(one, one).outputs[0].kinds[0].words == "channel 2"


def test_places_are_no_kinds_and_lists_of_open_length_have_them_along_the_other_axis() -> None:
    sums = KindSums()
    for count in (MOST_SLICES + 1, 40, 41):
        ref = head(1)
        wide = np.repeat(ref[:, :, :1], count, axis=2)
        sums.add(wide, np.zeros(wide.shape))
    assert [kind.places for kind in sums.kinds()] == [(4, 5, 6, 7, 8, 9), (0, 1, 2, 3)]
    sums.add(ref[0], np.zeros(ref[0].shape))
    assert sums.kinds() == (), "an output of another shape"


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=20))
def test_neighbours_within_a_kind_are_near_and_kinds_are_far(levels: Sequence[float]) -> None:
    """Whatever the levels are: every slice is in one kind; a gap of ten parts two, and nothing else does."""
    ref = np.array(levels)[None, :, None] * np.ones((1, 1, 3))
    sums = KindSums()
    sums.add(ref, np.zeros(ref.shape))
    kinds = sums.kinds() or (None,)
    groups = [sorted(levels[p] for p in kind.places) if kind else sorted(levels) for kind in kinds]
    assert sorted(value for group in groups for value in group) == sorted(levels)
    for group in groups:
        assert all(b <= 10.001 * a for a, b in itertools.pairwise(group))
    for low, high in itertools.pairwise(groups):
        assert high[0] > 9.999 * low[-1]


def test_an_unlabelled_budget_is_held_against_the_worst_kind() -> None:
    ref = head(8)
    cand = noisy(ref, slice(BOXES, None), 0.2)
    samples = Samples("made", tuple(map(str, range(8))), lambda i: np.full((1,), i, np.float32), as_is=True)

    class Answers:
        inputs = ()

        def __init__(self, values: Array) -> None:
            self.values = values

        def __call__(self, feeds: Tensors) -> Tensors:
            return {"y": self.values[int(feeds["x"][0, 0])][None]}

    judge = Judge(_session(Answers(ref)), Trial(samples, "x", task="other"))
    found = judge(_session(Answers(cand)))
    assert found.drop == pytest.approx(0.2, rel=0.2)
    assert found.snr_db == pytest.approx(7.0, abs=1.0)
    assert "dB SNR in channels 4 to 9 of y, " in found.words


def _session(answers: object) -> Session:
    return answers  # type: ignore[return-value]
