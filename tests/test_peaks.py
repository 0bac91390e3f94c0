"""The machine's peaks: the graphs that are timed do the work they are counted for, on the kernels they are named by."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.numbers.onnx_numbers import Numbers
from exporters.layerwise import peaks
from exporters.layerwise.peaks import Peaks, candidates, measure_peaks
from runtimes.census import census, kernels_dict
from runtimes.session import open_session, random_feeds

KERNELS = {"matmul fp32": "MatMul", "conv fp32": "Conv", "matmul int8": "MatMulInteger", "conv int8": "QLinearConv"}


@pytest.mark.parametrize("name", KERNELS)
def test_the_graphs_run_on_the_kernels_that_they_stand_for(name: str) -> None:
    model = candidates()[name]
    feeds = random_feeds(open_session(model).inputs)
    counts = kernels_dict(census(model, feeds))
    assert {op.replace("FusedMatMul", "MatMul"): n for op, n in counts.items() if "Reorder" not in op} == {
        KERNELS[name]: 1
    }


@pytest.mark.parametrize("name", KERNELS)
def test_multiply_adds_are_counted_as_in_any_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every call taking a second, the peak is the number of multiply-adds."""
    monkeypatch.setattr(peaks, "_fastest", lambda call, seconds: 1.0)
    monkeypatch.setattr(peaks, "candidates", lambda: {f"{name.split()[0]} {kind}": None for kind in ("fp32", "int8")})
    monkeypatch.setattr(peaks, "_call", lambda model, threads: None)
    model = candidates()[name]
    operator = KERNELS[name]
    layers = Numbers(model, {}).layers()
    (counted,) = [layer.macs for layer in layers if layer.op == operator]
    if name == "conv int8":  # the node has its channels last, which ONNX's shapes do not know
        counted = 128 * 128 * 9 * 28 * 28
    assert measure_peaks().fp32_gmacs * 1e9 == pytest.approx(counted)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_copy_copies_everything(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    real = np.copyto

    def spy(target: np.ndarray, source: np.ndarray) -> None:
        copied.append(source.size)
        real(target, source)

    monkeypatch.setattr(np, "copyto", spy)
    peaks._copy(1000, threads)()
    assert sum(copied) == 1000
    assert len(copied) == threads


def test_a_measurement_gives_all_four_and_says_its_threads() -> None:
    found = measure_peaks(1, seconds=0.01)
    assert min(found.fp32_gmacs, found.int8_gmacs, found.memory_gb_s, found.cache_gb_s) > 0
    assert found.to_dict()["threads"] == 1
    assert (found.gmacs(integer=True), found.gmacs(integer=False)) == (found.int8_gmacs, found.fp32_gmacs)
    assert found.cache_gb_s >= found.memory_gb_s


def test_the_fastest_call_counts() -> None:
    calls: list[int] = []
    assert peaks._fastest(lambda: calls.append(1), 0.0) >= 0
    assert len(calls) == 4, "one to warm up, three at least"


def test_the_better_of_two_measurements_number_by_number() -> None:
    assert Peaks(2, 1, 20, 3, 40).best(Peaks(2, 10, 2, 30, 4)) == Peaks(2, 10, 20, 30, 40)
