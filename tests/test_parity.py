"""Parity against numbers worked out by hand and by numpy over the whole data at once; NaN and Inf never pass."""

import json
import math
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.base import BadInput, CheckFailed, Inconclusive
from runtimes.parity import OutputParity, ParityReport, compare, difference

INF, NAN = math.inf, math.nan


def constant(*values: object, name: str = "y"):
    """A runner that answers with these values, whatever it is fed."""
    return lambda feeds: {name: np.asarray(values, np.float32).reshape(1, -1)}


def report(ref: object, cand: object, batches: int = 1) -> ParityReport:
    return compare(lambda f: {"y": np.asarray(ref)}, lambda f: {"y": np.asarray(cand)}, [feed()] * batches)


def feed(rows: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.zeros((rows, 3), np.float32)}


def test_worked_example() -> None:
    """ref (3, 4), cand (3, 4.5): max 0.5, SNR 10 log10(25 / 0.25) = 20 dB, the argmax agrees."""
    got = compare(constant(3, 4), constant(3, 4.5), [feed()])
    assert got == ParityReport(1, (OutputParity("y", 0.5, pytest.approx(20.0, abs=1e-12), 1.0, 0),))


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    scale=st.sampled_from([1e-6, 1e-2, 1.0]),
)
def test_streaming_equals_numpy_over_everything_at_once(seed: int, rows: list[int], scale: float) -> None:
    rng = np.random.default_rng(seed)
    refs = [rng.standard_normal((n, 7)).astype(np.float32) for n in rows]
    cands = [(r + scale * rng.standard_normal(r.shape)).astype(np.float32) for r in refs]
    answers_a, answers_b = iter(refs), iter(cands)
    got = compare(lambda f: {"y": next(answers_a)}, lambda f: {"y": next(answers_b)}, [feed(n) for n in rows])
    a, b = np.concatenate(refs).astype(np.float64), np.concatenate(cands).astype(np.float64)
    assert got.images == sum(rows)
    assert got.max_abs == np.abs(a - b).max()
    assert got.snr_db == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()), abs=1e-9)  # float64 sums
    assert got.top1 == pytest.approx((a.argmax(1) == b.argmax(1)).mean(), abs=1e-12)
    assert got.nonfinite == 0


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("side", ["reference", "candidate", "both"])
def test_nan_and_inf_are_counted_and_never_pass(bad: float, side: str) -> None:
    spoilt, fine = constant(1, bad, 3), constant(1, 2, 3)
    ref = fine if side == "candidate" else spoilt
    cand = fine if side == "reference" else spoilt
    got = compare(ref, cand, [feed(), feed()])
    assert (got.nonfinite, got.snr_db, got.max_abs) == (2, -INF, INF)
    with pytest.raises(CheckFailed, match="output y: 2 values are NaN or Inf"):
        got.require()
    for limits in ({"snr_db": -1e9}, {"max_abs": INF}, {"top1": 0.0}):
        assert got.failures(**limits)


def test_one_nan_in_the_first_batch_is_not_forgotten_in_the_last() -> None:
    answers = iter([NAN, 1.0, 1.0])
    got = compare(constant(1, 2), lambda f: {"y": np.array([[next(answers), 2]], np.float32)}, [feed()] * 3)
    assert got.nonfinite == 1
    assert got.failures()


@pytest.mark.parametrize(
    ("ref", "cand"),
    [
        (np.zeros((1, 3)), np.zeros((1, 4))),
        (np.zeros((1, 3)), np.zeros((3,))),
        (np.zeros((1, 3)), np.zeros((1, 1))),  # would broadcast
        (np.zeros((1, 3)), np.zeros((3, 1))),
        (np.zeros(()), np.zeros((1,))),
    ],
)
def test_a_wrong_shape_never_passes(ref: np.ndarray, cand: np.ndarray) -> None:
    got = report(ref, cand)
    assert not got.outputs[0].shape_ok
    with pytest.raises(CheckFailed, match="another shape"):
        got.require()


def test_outputs_are_matched_by_name_whatever_the_order() -> None:
    one, two = np.ones((1, 2)), np.zeros((1, 2))
    got = compare(lambda f: {"a": one, "b": two}, lambda f: {"b": two, "a": one}, [feed()])
    assert got.snr_db == INF
    assert [out.name for out in got.outputs] == ["a", "b"]


def test_outputs_with_other_names_are_matched_by_position() -> None:
    one, two = np.ones((1, 2)), np.zeros((1, 2))
    assert compare(lambda f: {"a": one, "b": two}, lambda f: {"p": one, "q": two}, [feed()]).snr_db == INF
    assert compare(lambda f: {"a": one, "b": two}, lambda f: {"p": two, "q": one}, [feed()]).failures(max_abs=0.5)


@pytest.mark.parametrize(("ref", "cand"), [(["a", "b"], ["a"]), (["a"], ["a", "b"]), (["a", "b"], ["p"])])
def test_a_missing_output_never_passes(ref: list[str], cand: list[str]) -> None:
    got = compare(lambda f: dict.fromkeys(ref, np.ones(1)), lambda f: dict.fromkeys(cand, np.ones(1)), [feed()])
    with pytest.raises(CheckFailed, match="missing on one side"):
        got.require(snr_db=-1e9)


@pytest.mark.parametrize(
    ("ref", "cand", "snr"),
    [([[0.0, 0.0]], [[0.0, 0.0]], INF), ([[0.0, 0.0]], [[0.0, 1e-3]], -INF), ([[1.0, 1.0]], [[1.0, 1.0]], INF)],
)
def test_the_edges_of_snr(ref: list, cand: list, snr: float) -> None:
    assert report(ref, cand).snr_db == snr


def test_sums_are_float64() -> None:
    """2**24 + 1 is not a float32: a float32 sum of squares over many batches would stand still."""
    ref, cand = np.full((1, 1), 4096.0, np.float32), np.full((1, 1), 4095.0, np.float32)
    assert report(ref, cand, batches=100).snr_db == pytest.approx(20 * math.log10(4096), abs=1e-9)
    big = np.full((1, 4), 3e38, np.float32)  # its square is no float32
    assert report(big, big * np.float32(0.5)).snr_db == pytest.approx(20 * math.log10(2), abs=1e-5)


def test_beyond_float64_does_not_pass() -> None:
    got = report(np.array([1e200]), np.array([2e200]))
    assert got.snr_db == -INF
    assert got.failures(snr_db=-300.0)


@pytest.mark.parametrize(("x", "images"), [(np.zeros((4, 3)), 8), (np.zeros(()), 2), (np.zeros(5), 10)])
def test_images_are_counted_on_the_first_axis(x: np.ndarray, images: int) -> None:
    assert compare(constant(1), constant(1), [{"x": x}] * 2).images == images


@pytest.mark.parametrize(
    ("ref", "cand", "cosine"),
    [
        ([3.0, 4.0], [6.0, 8.0], 1.0),
        ([3.0, 4.0], [-6.0, -8.0], -1.0),
        ([1e-3, 0.0], [1e-3, 1e-3], math.sqrt(0.5)),
        ([3.0, 4.0], [0.0, 0.0], NAN),
        ([1e200, 0.0], [1e200, 0.0], NAN),
    ],
)
def test_the_angle_between_two_answers(ref: list[float], cand: list[float], cosine: float) -> None:
    assert report(ref, cand).outputs[0].cosine == pytest.approx(cosine, abs=1e-12, nan_ok=True)


def test_the_share_of_equal_integers() -> None:
    ref, cand = np.arange(8), np.arange(8) % 6
    assert report(ref, cand, batches=2).outputs[0].same == 0.75
    assert report(ref.astype(np.float32), cand).outputs[0].same is None


@pytest.mark.parametrize("shape", [(4,), (4, 1), (1, 4, 2), (2, 2, 2, 2), ()])
def test_top1_is_only_for_rows_of_classes(shape: tuple[int, ...]) -> None:
    assert report(np.ones(shape), np.ones(shape)).top1 is None


def test_top1_is_the_share_of_equal_rows() -> None:
    ref = np.eye(4)[[0, 1, 2, 3]]
    cand = np.eye(4)[[0, 1, 2, 0]]
    assert report(ref, cand).top1 == 0.75


@pytest.mark.parametrize(
    ("ref", "cand", "apart"),
    [
        (np.array([2**63 - 1]), np.array([2**63 - 2]), 1.0),  # equal once they are float64
        (np.array([-(2**63)]), np.array([2**63 - 1]), 2.0**64),  # overflows int64
        (np.array([0], np.uint8), np.array([255], np.uint8), 255.0),  # wraps in uint8
        (np.array([-128], np.int8), np.array([127], np.int8), 255.0),
        (np.array([True]), np.array([False]), 1.0),
        (np.array([1], np.int8), np.array([200], np.uint8), 199.0),
        (np.array([1.5], np.float16), np.array([1.0], np.float64), 0.5),
    ],
)
def test_differences_of_integers_are_exact(ref: np.ndarray, cand: np.ndarray, apart: float) -> None:
    assert difference(ref, cand).tolist() == [apart]
    assert difference(cand, ref).tolist() == [apart]


def test_require_gives_the_report_back_or_names_output_value_and_limit() -> None:
    got = compare(constant(3, 4), constant(3, 4.5), [feed()])
    assert got.require(snr_db=19.99, max_abs=0.5, top1=1.0) is got
    for limits, message in (
        ({"snr_db": 20.01}, r"output y: SNR 20.0 dB is below the limit of 20.01 dB"),
        ({"max_abs": 0.499}, r"output y: max \|difference\| 0.5 is above the limit of 0.499"),
        ({"snr_db": 90, "max_abs": 0.1}, r"and 1 more"),
    ):
        with pytest.raises(CheckFailed, match=message):
            got.require(**limits)
    flipped = compare(constant(3, 4), constant(4, 3), [feed()])
    with pytest.raises(CheckFailed, match=r"output y: top-1 agreement 0.0000 is below the limit of 0.9"):
        flipped.require(top1=0.9)


def test_limits_may_differ_by_output() -> None:
    ref, cand = {"a": np.zeros(2), "b": np.zeros(2)}, {"a": np.ones(2), "b": np.full(2, 3.0)}
    got = compare(lambda f: ref, lambda f: cand, [feed()])
    assert got.require(max_abs={"a": 1.0}) is got
    assert got.failures(max_abs={"a": 1.0, "b": 2.0}) == ("output b: max |difference| 3 is above the limit of 2",)
    with pytest.raises(BadInput, match="c: unknown output"):
        got.require(max_abs={"c": 1.0})


def test_the_worst_output_stands_for_the_report() -> None:
    outputs = (
        OutputParity("a", 0.1, 90.0, 1.0, 0),
        OutputParity("b", 0.3, 40.0, None, 0),
        OutputParity("c", 0.2, 60.0, 0.5, 0),
    )
    got = ParityReport(7, outputs)
    assert (got.max_abs, got.snr_db, got.top1, got.nonfinite) == (0.3, 40.0, 0.5, 0)


def test_top1_where_there_are_no_classes_is_bad_usage() -> None:
    with pytest.raises(BadInput, match="top1: no output"):
        report(np.ones(3), np.ones(3)).require(top1=0.9)


def test_no_batches_is_no_proof() -> None:
    with pytest.raises(BadInput, match="no batches"):
        compare(constant(1), constant(1), [])


@pytest.mark.parametrize("rows", [0, 2])
def test_no_numbers_are_no_proof(rows: int) -> None:
    def empty(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": np.zeros((rows, 0), np.float32), "z": np.zeros((0, 4), np.float32)}

    with pytest.raises(Inconclusive, match="no output holds a number, so nothing was compared"):
        compare(empty, empty, [feed(rows)])
    one = compare(lambda f: {**empty(f), "v": f["x"]}, lambda f: {**empty(f), "v": f["x"]}, [feed(2)])
    assert one.snr_db == INF, "one output with numbers is enough"


def test_lists_that_are_empty_on_both_sides_are_equal() -> None:
    assert report(np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64)).snr_db == INF
    found = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, np.int64)}
    assert compare(lambda f: found, lambda f: found, [feed()]).matching is not None


def test_outputs_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(BadInput, match="output y: has type <U1"):
        compare(lambda f: {"y": np.array(["a"])}, lambda f: {"y": np.array(["a"])}, [feed()])


def test_the_document_is_strict_json() -> None:
    for ref, cand, snr in (([[1.0, 2.0]], [[1.0, 2.0]], 999.0), ([[1.0, 2.0]], [[NAN, 2.0]], -999.0)):
        text = json.dumps(report(ref, cand).to_dict(), allow_nan=False)
        assert json.loads(text)["outputs"][0]["snr_db"] == snr
    assert set(report([1.0], [1.0]).to_dict()) == {"images", "outputs"}


def test_progress_is_drawn_over_a_sequence_only() -> None:
    seen: list[str] = []

    def track(items, label):
        seen.append(f"{label} {len(items)}")
        return items

    compare(constant(1), constant(1), [feed()] * 3, track=track)
    compare(constant(1), constant(1), iter([feed()] * 3), track=track)
    assert seen == ["comparing 3"]


def test_memory_is_that_of_one_batch() -> None:
    """40 batches of 1 MB outputs: holding them would take 80 MB; one batch in float64 takes about 10 MB."""

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for _ in range(40):
            yield feed()

    tracemalloc.start()
    try:
        compare(*[lambda f: {"y": np.ones((1, 2**18), np.float32)}] * 2, batches())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20
