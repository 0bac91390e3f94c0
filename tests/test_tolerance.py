"""The limit that nobody gave: the reference's own noise, measured, within bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgecnn.checking.tolerance import HALF_SNR_DB, HIGHEST_DB, INT8_SNR_DB, MARGIN_DB, jitter, own_noise, tolerance
from edgecnn.runners import Subject
from runtimes.comparing.matching import Edges
from runtimes.parity import compare
from runtimes.session import TensorInfo

FEEDS = [{"x": np.random.default_rng(i).standard_normal((2, 8)).astype(np.float32)} for i in range(4)]


def subject(run: object, **more: object) -> Subject:
    return Subject("net.onnx", run, (TensorInfo("x", "float32", (2, 8)),), None, more.pop("quantized", False), **more)


def test_jitter_is_the_last_bit() -> None:
    moved = jitter(FEEDS[0])["x"]
    assert moved.dtype == np.float32
    assert 0 < np.abs(moved / FEEDS[0]["x"] - 1).max() <= 2**-22
    assert jitter({"i": np.arange(3)})["i"].tolist() == [0, 1, 2]


def test_a_network_is_held_to_its_own_noise() -> None:
    """A second runner that is off by 1e-4 is 80 dB of noise; what is asked of others is 15 dB less."""
    noisy = subject(lambda f: {"y": f["x"]}, again=lambda: lambda f: {"y": f["x"] * np.float32(1 + 1e-4)})
    parity = compare(noisy.runner, noisy.runner, FEEDS)
    found = tolerance([noisy, noisy], FEEDS, parity)
    assert found.snr_db["y"] == pytest.approx(80 - MARGIN_DB, abs=0.1)
    assert "with and without ONNX Runtime's optimizer and inputs off by one" in found.why


def test_chaos_is_seen_by_moving_the_inputs() -> None:
    """sin(1000 x) enlarges the last bit by 60 dB; there is no second runner."""
    wild = subject(lambda f: {"y": np.sin(f["x"].astype(np.float64) * 1e3)})
    reports, how = own_noise(wild, FEEDS)
    assert len(reports) == 1
    assert 60 < reports[0].snr_db < 100
    assert how == "inputs off by one unit in the last place"


def test_the_limit_has_bounds() -> None:
    quiet = subject(lambda f: {"y": f["x"]})
    parity = compare(quiet.runner, quiet.runner, FEEDS)
    assert tolerance([quiet, quiet], FEEDS, parity).snr_db == {"y": HIGHEST_DB}
    assert tolerance([quiet, subject(quiet.runner, half=True)], FEEDS, parity).snr_db == {"y": HALF_SNR_DB}
    assert tolerance([quiet, subject(quiet.runner, quantized=True)], FEEDS, parity).snr_db == {"y": INT8_SNR_DB}
    broken = subject(quiet.runner, again=lambda: lambda f: {"y": -f["x"]})
    assert tolerance([broken, quiet], FEEDS, parity).snr_db == {"y": HALF_SNR_DB}, "nothing passes for noise"


def test_a_box_at_an_edge_is_no_noise_of_a_detector() -> None:
    """Its second runner drops the box whose score lies at the threshold: rounding decides, and nothing is wrong."""
    found = {"boxes": np.float32([[0, 0, 9, 9], [20, 20, 29, 29]]), "scores": np.float32([0.9, 0.4])}
    found |= {"labels": np.array([0, 1]), "image": np.array([0, 0])}
    fewer = lambda: lambda _: {name: value[:1] for name, value in found.items()}  # noqa: E731
    limits = [
        tolerance(
            [subject(lambda _: found, again=fewer, edges=edges)] * 2, FEEDS, compare(*[lambda _: found] * 2, FEEDS)
        )
        for edges in (Edges(score=(0.4,)), Edges(score=(0.6,)))
    ]
    assert [limit.snr_db["boxes"] for limit in limits] == [HIGHEST_DB, HALF_SNR_DB]


def test_integers_are_counted() -> None:
    classes = subject(lambda f: {"c": f["x"].argmax(1)})
    parity = compare(classes.runner, classes.runner, FEEDS)
    found = tolerance([classes, classes], FEEDS, parity)
    assert found.snr_db == {}
    assert 0.99 < found.same["c"] <= 1
    assert not math.isnan(parity.outputs[0].mean_abs)
