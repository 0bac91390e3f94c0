"""Copies of an image are found, and are no evidence of their own; oracles: sums by hand, intervals of what differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecnn import api, doubts
from edgecnn.choosing import choose
from edgecnn.choosing.choose import Candidate, Decision
from edgecnn.choosing.evidence import judged_by_few
from edgecnn.choosing.judge import Judge
from edgecnn.choosing.trial import Trial
from edgecnn.data.copies import apart, distinct, groups_of, independent, marks, once, worth
from edgecnn.data.load import load_data
from edgecnn.data.material import material_for
from edgecnn.data.samples import Samples
from edgecnn.evaluation.scores import Score, bootstrap, paired, paired_shares
from runtimes.base import Array, Tensors
from runtimes.execution.feeds import digest
from small_nets import conv_net, save

RNG = np.random.default_rng(6)
IMAGES = RNG.standard_normal((50, 3, 8, 8)).astype(np.float32)


def samples_of(*places: int) -> Samples:
    return load_data((IMAGES[list(places)], np.array(places) % 10), (3, 8, 8))


def test_equal_numbers_are_copies_whatever_else_differs(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES[[3, 4]])
    elsewhere = load_data(tmp_path / "x.npy", (3, 8, 8))
    assert marks(samples_of(4, 3, 4))[1:] == marks(elsewhere)
    assert len({digest({"x": IMAGES[0]}), digest({"y": IMAGES[0]}), digest({"x": IMAGES[0].reshape(-1)})}) == 3
    two = replace(samples_of(1, 1), others={"meta": lambda i: np.float32([i])})
    assert len(set(marks(two))) == 2, "the further input differs"


def test_copies_are_worth_what_kish_says() -> None:
    assert worth(np.repeat([0, 1, 2, 3], 108), 432) == 4
    many = np.concatenate([np.zeros(100, int), np.arange(1, 901)])
    assert worth(many, 1000) == pytest.approx(1000**2 / (100**2 + 900))
    assert groups_of([b"a", b"b"]) is None
    assert worth(None, 7) == 7


def test_each_image_calibrates_once() -> None:
    left, used = once(samples_of(5, 2, 5, 5, 2, 9))
    assert [image.tobytes() for image in left.stack()] == [IMAGES[i].tobytes() for i in (5, 2, 9)]
    assert len(used) == 3
    assert once(samples_of(1, 2))[0].ids == samples_of(1, 2).ids


@pytest.mark.parametrize(("least", "found"), [(2, (3, 2, 0)), (3, (5, 0, 2))])
def test_what_calibrated_judges_only_where_too_few_others_are_left(least: int, found: tuple[int, int, int]) -> None:
    judged, left_out, repeated = apart(samples_of(1, 2, 3, 2, 1), {marks(samples_of(1))[0]}, least)
    assert (len(judged), left_out, repeated) == found
    assert (distinct(judged), judged.groups is not None) == (2 if left_out else 3, True)
    some = judged.subset([0, 1])
    assert some.groups is not None
    assert judged.groups is not None
    assert some.groups.tolist() == judged.groups[:2].tolist()


def right(values: Array, groups: Array | None = None) -> Score:
    return Score("top-1", float(values.mean()), len(values), {}, lambda w: w @ values / w.sum(1), groups=groups)


def test_intervals_are_those_of_the_different_images() -> None:
    """Six images, each 30 times: Tango's interval and the bootstrap's draws are those of six."""
    ours, theirs = np.array([1, 1, 1, 1, 0, 1.0]), np.array([1, 1, 0, 1, 0, 0.0])
    groups = np.tile(np.arange(6), 30)
    many = right(np.tile(ours, 30), groups), right(np.tile(theirs, 30), groups)
    found, alone = paired(*many), paired_shares(2, 0, 6)
    assert (found.value, found.method) == (2 / 6, alone.method)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    assert bootstrap(*many).low == pytest.approx(bootstrap(right(ours), right(theirs)).low, abs=1e-12)
    blind = bootstrap(*(replace(score, groups=None) for score in many))
    assert blind.high - blind.low < 0.3 * (bootstrap(*many).high - bootstrap(*many).low)


def test_an_image_with_many_copies_lies_within_its_interval() -> None:
    """100 of 1,000 are copies of one that only the reference answers right."""
    groups = np.concatenate([np.zeros(100, int), np.arange(1, 901)])
    found = paired(right(np.ones(1000), groups), right((groups > 0).astype(float), groups))
    assert found.value == 0.1
    assert found.low < 0.1 < found.high
    plain = paired_shares(100, 0, 1000)
    assert found.high - found.low > 2 * (plain.high - plain.low)


def test_where_no_draw_differs_copies_leave_as_much_room_as_their_originals() -> None:
    """Four pictures, 25 times each: 1 - 0.05^(1/4) of other pictures may count otherwise, and not 1 - 0.05^(1/100)."""
    judged, _, _ = apart(samples_of(*[i % 4 for i in range(100)]), (), 30)
    score = right(np.ones(100), judged.groups)
    found = bootstrap(score, score)
    assert (found.images, found.others) == (4, pytest.approx(1 - 0.05 ** (1 / 4)))
    assert choose._at_most(None, Trial(judged, "x")) == " (95 %: at most 52.7 % of images count otherwise)"


def test_without_labels_the_share_that_may_change_is_that_of_the_different_images() -> None:
    class Fixed:
        inputs = outputs = ()

        def __call__(self, feeds: Tensors) -> Tensors:
            return {"y": feeds["data"].reshape(1, -1)[:, :10]}

    copied = samples_of(*[i % 4 for i in range(40)])
    judged, _, _ = apart(copied, (), 30)
    for samples, most in ((judged, 1 - 0.05 ** (1 / 4)), (copied, 1 - 0.05 ** (1 / 40))):
        trial = Trial(samples.without_answers(), "data")
        found = Judge(Fixed(), trial)(Fixed())  # type: ignore[arg-type]
        assert (found.drop, found.drop_high) == (0, pytest.approx(most))
    assert independent(judged) == 4


def test_the_budget_names_what_the_images_are_worth() -> None:
    judged, _, _ = apart(samples_of(*[i % 4 for i in range(40)]), (), 30)
    material = material_for(conv_net(), None, IMAGES, None, 8, 0)
    lost = Candidate("int8", 1, 1.0, drop=0.0, drop_high=0.5, kind="int8", agreement=1.0)
    decision = Decision("int8", "", (Candidate("float", 4, 2.0), lost), None, 1)
    line = judged_by_few("net", decision, replace(material, judged=judged), Trial(judged, "x"))
    assert line.startswith("net: 40 images, worth 4 different ones, cannot show a budget of 1.0 %")


def test_copies_are_told_where_they_are_many_or_little_else_is_there() -> None:
    def line(*places: int) -> str:
        return doubts.of_copies(apart(samples_of(*places), (), 30)[0])

    assert line(*range(40)) == ""
    assert line(*range(40), 0, 1) == "", "2 of 42"
    assert line(*range(40), 0, 1, 2) == (
        "data array: 3 of 43 images to judge by are copies of others; all are worth 37 different ones, and intervals "
        "count them so"
    )
    assert line(*range(15), 0).startswith("data array: 1 of 16 images to judge by are copies of others")


def test_four_images_108_times_are_four(tmp_path: Path) -> None:
    data = IMAGES[np.random.default_rng(0).permutation(np.repeat([3, 14, 15, 9], 108))]
    net = save(conv_net(), tmp_path / "net.onnx")
    report = api.quantize(net, tmp_path / "q.onnx", data, search_budget=0, allow_slower=True)
    assert report.recipe.calibrated_on == "128 of 432 images (--limit) of calib array, 4 of them different"
    assert report.judged_on == "the same images without labels: answers are compared with the float graph's"
    assert report.quantized.calibration is not None
    assert report.quantized.calibration.images == 4
    (line,) = (line for line in report.warnings if "copies" in line)
    assert line == (
        "calib array: 124 of 128 images to calibrate on are copies of others; ranges stand on 4 different ones"
    )


@pytest.mark.parametrize("wanted", [299, 30])
def test_where_some_are_copies_more_are_drawn(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 different images, 60 of them twice: about 20 calibrate, and of the others so many judge as are wanted."""
    monkeypatch.setattr("edgecnn.data.material.JUDGED", wanted)
    draw = np.random.default_rng(2)
    images = draw.standard_normal((100, 3, 8, 8)).astype(np.float32)
    data = np.concatenate([images, images[:60]])[draw.permutation(160)]
    found = material_for(conv_net(), None, data, None, 20, 0)
    assert len(found.calibration) == len(set(marks(found.calibration))) == 20 - found.copies
    assert not set(marks(found.calibration)) & set(marks(found.judged))
    assert 0 <= distinct(found.judged) - min(wanted, 100 - len(found.calibration)) <= 0.3 * wanted
    assert found.judged_on.startswith(f"{len(found.judged)} images without labels that did not calibrate: ")


def test_what_calibrates_and_judges_is_told_where_little_else_is_there(tmp_path: Path) -> None:
    net = save(conv_net(), tmp_path / "net.onnx")
    judge = IMAGES[:20], np.arange(20) % 10
    report = api.quantize(net, tmp_path / "q.onnx", IMAGES[:12], data=judge, search_budget=0, max_drop=1.0)
    assert report.judged_on == "20 labelled images of data array"
    assert (
        "data array: 12 of the 20 images that judge are among those that calibrated, which flatters the result: judge "
        "on images of their own"
    ) in report.warnings


def test_evaluate_counts_copies_in_its_value_and_not_as_evidence(tmp_path: Path) -> None:
    net = save(conv_net(), tmp_path / "net.onnx")
    y = np.arange(20) % 10
    alone = api.evaluate(net, net, data=(IMAGES[:20], y))
    many = api.evaluate(net, net, data=(np.repeat(IMAGES[:20], 5, 0), np.repeat(y, 5)))
    assert alone.difference is not None
    assert many.difference is not None
    assert (many.images, many.to_dict()["distinct_images"], alone.to_dict()["distinct_images"]) == (100, 20, 20)
    assert many.difference.high == pytest.approx(alone.difference.high)
    assert any("80 of 100 images to judge by are copies of others" in line for line in many.warnings)
    assert not any("copies" in line for line in alone.warnings)
