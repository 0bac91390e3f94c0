"""Every file in exporters/calibrators keeps the folder's contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exporters import calibrators
from runtimes import plugins
from runtimes.base import BadInput


@pytest.fixture(params=plugins.names(calibrators))
def calibrator(request: pytest.FixtureRequest) -> Any:
    return plugins.load(calibrators, request.param, "calibrator").Calibrator


def batches(count: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(2, 3, 5, 5)).astype(np.float32) for _ in range(count)]


def test_the_range_is_finite_and_ordered(calibrator: Any) -> None:
    watcher = calibrator()
    for batch in batches():
        watcher.observe(batch)
    low, high = watcher.range()
    assert np.isfinite([low, high]).all()
    assert low < 0 < high


def test_the_order_of_batches_does_not_matter(calibrator: Any) -> None:
    forward, backward = calibrator(), calibrator()
    for batch in batches():
        forward.observe(batch)
    for batch in reversed(batches()):
        backward.observe(batch)
    assert forward.range() == backward.range()


def test_the_range_stays_inside_the_data(calibrator: Any) -> None:
    watcher, data = calibrator(), batches()
    for batch in data:
        watcher.observe(batch)
    low, high = watcher.range()
    assert min(b.min() for b in data) <= low
    assert high <= max(b.max() for b in data)


def test_a_constant_tensor_has_a_range(calibrator: Any) -> None:
    watcher = calibrator()
    watcher.observe(np.zeros((1, 4), np.float32))
    assert watcher.range() == (0.0, 0.0)


def test_nothing_observed_is_an_error(calibrator: Any) -> None:
    with pytest.raises(ValueError, match="observed"):
        calibrator().range()


def test_minmax_is_the_extremes() -> None:
    watcher = plugins.load(calibrators, "minmax", "calibrator").Calibrator()
    watcher.observe(np.asarray([3.0, -2.0], np.float32))
    watcher.observe(np.asarray([0.5], np.float32))
    assert watcher.range() == (-2.0, 3.0)


def test_an_unknown_name_answers_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="minmaks: unknown calibrator; did you mean minmax"):
        plugins.load(calibrators, "minmaks", "calibrator")
