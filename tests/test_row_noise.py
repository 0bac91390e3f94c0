"""Noise in rows of numbers is held against what they vary by, not against what all images have in common."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.choosing.judge import Judge
from edgecnn.choosing.trial import Trial
from edgecnn.data.samples import Samples
from runtimes.base import Array, Tensors
from runtimes.comparing.row_noise import BY_NUMBER, LARGEST_ROW, RowNoise
from runtimes.parity import ParityReport, compare

RNG = np.random.default_rng(5)
IMAGES = 40


def lost(ref: Array, cand: Array, batch: int = 8) -> float | None:
    sums = RowNoise()
    for start in range(0, len(ref), batch):
        ours, theirs = ref[start : start + batch], cand[start : start + batch]
        sums.add(ours, np.abs(ours - theirs), len(ours))
    return sums.lost()


@pytest.mark.parametrize("shape", [(), (1,), (5, 2), (BY_NUMBER,)])
@pytest.mark.parametrize("offset", [0.0, 48.0, 1e4])
def test_it_is_what_r2_lacks_where_the_reference_is_the_truth(shape: tuple[int, ...], offset: float) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    ref = offset + RNG.normal(size=(IMAGES, *shape)) * np.arange(1, 1 + int(np.prod(shape))).reshape(shape)
    cand = ref + 0.2 * RNG.normal(size=ref.shape)
    r2 = metrics.r2_score(ref.reshape(IMAGES, -1), cand.reshape(IMAGES, -1))
    assert lost(ref, cand) == pytest.approx((1 - r2) * (IMAGES - 1) / IMAGES, rel=1e-5)


def test_a_long_row_is_one_thing() -> None:
    """The dead numbers of an embedding, which hold nothing but noise, count by their size."""
    ref = RNG.normal(size=(IMAGES, 2 * BY_NUMBER)) * np.where(np.arange(2 * BY_NUMBER) % 2, 1.0, 1e-4)
    cand = ref + 0.01 * RNG.normal(size=ref.shape)
    assert lost(ref, cand) == pytest.approx(2 * 1e-4, rel=0.2)
    assert lost(ref[:, :BY_NUMBER], cand[:, :BY_NUMBER]) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(
    "ref",
    [
        np.ones((1, 4)),  # one image varies by nothing
        np.full((IMAGES, 4), 3.0),  # nor do answers that are all the same
        RNG.normal(size=(IMAGES, LARGEST_ROW + 1)),  # a map
    ],
)
def test_where_nothing_is_known(ref: Array) -> None:
    assert lost(ref, ref + 0.1) is None


def test_a_number_that_is_always_the_same_is_left_out() -> None:
    ref = np.stack([RNG.normal(size=IMAGES), np.full(IMAGES, 7.1)], axis=1)
    assert lost(ref, ref + 0.1) == pytest.approx(lost(ref[:, :1], ref[:, :1] + 0.1))


def parity(ref: Array, cand: Array) -> ParityReport:
    """Of answers (1, ...) to one image each, as they come."""
    feeds = [{"i": np.array([[i]])} for i in range(len(ref))]
    return compare(lambda f: {"y": ref[f["i"][0, 0]]}, lambda f: {"y": cand[f["i"][0, 0]]}, feeds)


def test_images_that_are_not_the_first_axis_make_no_rows() -> None:
    ref = RNG.normal(size=(IMAGES, 32, 1, 11))
    assert parity(ref, ref + 0.1).noisiest.lost is None
    assert parity(ref[:, :1], ref[:, :1] + 0.1).noisiest.lost is not None


def judged(ref: Array, cand: Array, task: str) -> tuple[float, str]:
    """(what int8 that answers `cand` costs, in words too)."""
    samples = Samples("made", tuple(map(str, range(IMAGES))), lambda i: np.array([i], np.float32))

    def runner(answers: Array) -> object:
        class Answers:
            outputs = ()

            def __call__(self, feed: Tensors) -> Tensors:
                return {"y": answers[feed["x"].astype(int)[:, 0]]}

        return Answers()

    found = Judge(runner(ref), Trial(samples, "x", task=task))(runner(cand))  # type: ignore[arg-type]
    return found.drop, found.words


@pytest.mark.parametrize("task", ["regression", "other"])
def test_landmarks_that_stand_still_are_not_within_the_budget(task: str) -> None:
    """20 dB, 1 % of noise in all the numbers, is a fourth of what they vary by."""
    ref = 48 + 9.6 * RNG.normal(size=(IMAGES, 10))
    cand = ref + 4.8 * RNG.choice([-1, 1], ref.shape)
    assert parity(ref[:, None], cand[:, None]).snr_db == pytest.approx(20, abs=0.5)
    drop, words = judged(ref, cand, task)
    assert drop == pytest.approx(0.25, abs=0.06)
    assert words == f"has {100 * drop:.1f} % noise in what its answers vary by from image to image (budget 1.0 %)"


def test_numbers_around_zero_are_held_to_their_power() -> None:
    ref = RNG.normal(size=(IMAGES, 100, 100))
    cand = ref * 0.9
    assert judged(ref, cand, "other")[1] == "has 20.0 dB SNR, 1.0 % noise (budget 1.0 %)"
