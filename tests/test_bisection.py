"""The search names the first wrong point of any graph, within its number of measurements."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgecnn.checking.bisection import ByDrop, Reading, search
from exporters.layerwise.points import Points, chain, members, with_parents


def wrong_from(points: Points, faulty: int, asked: list[int]) -> object:
    """A measurement by which `faulty` and all that is made from it is wrong."""

    def measure(chosen: int) -> dict[int, Reading]:
        asked.append(chosen)
        bad = {i for i in members(points.all) if i == faulty or points.before[i] >> faulty & 1}
        return {i: Reading(10.0 if i in bad else 120.0, 100.0) for i in members(chosen)}

    return measure


def random_points(rng: np.random.Generator, count: int) -> Points:
    """A random graph of which the last point is made from all that nobody else reads."""
    parents: list[tuple[int, ...]] = [()]
    for i in range(1, count):
        parents.append(tuple(sorted({int(p) for p in rng.integers(max(0, i - 6), i, rng.integers(1, 3))})))
    read = {p for own in parents for p in own}
    parents.append(tuple(i for i in range(count) if i not in read))
    return with_parents([str(i) for i in range(count + 1)], parents)


@pytest.mark.parametrize("seed", range(5))
def test_every_point_is_found_in_few_measurements(seed: int) -> None:
    points = random_points(np.random.default_rng(seed), 20 + 9 * seed)
    for faulty in members(points.all):
        asked: list[int] = []
        found = search(points, wrong_from(points, faulty, asked))
        assert found.point == faulty
        assert found.runs == len(asked) <= 1 + math.ceil(math.log2(len(points.names)))
        assert all(points.front(chosen) == chosen for chosen in asked), "nothing is kept that another point shows"


def test_nothing_is_wrong() -> None:
    points = chain("abcdef")
    found = search(points, lambda chosen: {i: Reading(math.inf, 100.0) for i in members(chosen)})
    assert (found.point, found.runs) == (None, 1)


def test_nan_is_wrong() -> None:
    points = chain("abcd")
    found = search(points, lambda chosen: {i: Reading(math.nan if i > 1 else 120, 100.0) for i in members(chosen)})
    assert found.point == 2


def test_an_error_that_vanishes_still_ends() -> None:
    """Only b and the output are wrong: no answer is right, but there is one, and the caller proves it."""
    points = with_parents("abcd", [(), (0,), (1,), (2,)])
    found = search(points, lambda chosen: {i: Reading(1.0 if i in (1, 3) else 120, 100.0) for i in members(chosen)})
    assert found.point in (1, 3)


def test_the_largest_drop_is_found_where_every_layer_loses_a_little() -> None:
    for at in range(1, 32):
        points = chain([str(i) for i in range(32)])
        loss = np.cumsum([0.1 + 18 * (i == at) for i in range(32)])
        found = search(points, lambda chosen, n=loss: {i: Reading(40 - n[i], 20) for i in members(chosen)}, ByDrop(40))
        assert found.point == at
        assert found.runs <= 6


def test_what_does_not_run_is_wrong_also_where_everything_is_noise() -> None:
    """A reference whose answer hangs on the last bit has a limit of -inf; a candidate that does not run is worse."""
    assert Reading(-math.inf, -math.inf, "no kernel").bad
    assert not Reading(-math.inf, -math.inf).bad
