"""One score for two classes, judged, scored, told and shown like the two scores that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn import api
from runtimes.base import Array, BadInput
from runtimes.bundle import open_bundle
from runtimes.comparing.two_classes import as_two, class_count, two_classes
from small_nets import model as onnx_model

RNG = np.random.default_rng(3)
PICTURES = (RNG.choice([50, 85, 170, 205], (40, 1, 1)) + RNG.integers(-50, 51, (40, 8, 8))).astype(np.uint8)
"""Dark and bright ones, none of them so grey that rounding decides."""


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 3, 5)])
def test_the_largest_of_two_is_the_sign_of_one(shape: tuple[int, ...]) -> None:
    logits = RNG.normal(size=shape).astype(np.float32)
    logits.flat[0] = 0.0  # on the threshold is not over it
    column = logits if logits.ndim > 1 else logits[:, None]
    two = as_two(logits, sigmoid=False)
    assert two.shape == (4, 2, *shape[2:])
    assert np.array_equal(two.argmax(1), column[:, 0] > 0)
    chances = 1 / (1 + np.exp(-logits))
    assert np.array_equal(as_two(chances, sigmoid=True).argmax(1), column[:, 0] > 0)
    powers = np.exp(two)
    assert powers[:, 1] / powers.sum(1) == pytest.approx(chances if chances.ndim == 1 else chances[:, 0], rel=1e-5)


def test_other_answers_stay_and_nan_is_told() -> None:
    several = RNG.normal(size=(4, 3)).astype(np.float32)
    assert as_two(several, sigmoid=True) is several
    assert not np.isfinite(as_two(np.float32([[np.nan]]), sigmoid=False)).all()
    found = two_classes(lambda feeds: {"boxes": feeds["x"], "logits": feeds["x"]}, False)({"x": np.float32([[2]])})
    assert (found["boxes"].shape, found["logits"].shape) == ((1, 1), (1, 2))
    assert [class_count(s) for s in ((7,), (7, 1), (7, 1, 2, 2), (7, 5), (7, 5, 2, 2), (7, "K"))] == [
        2,
        2,
        2,
        5,
        5,
        None,
    ]


def network(folder: Path, ending: str, out: str) -> Path:
    """A network that says how bright a picture of -1 to 1 is, all of it or each pixel."""
    path = folder / "net.onnx"
    made = onnx_model(f"""<ir_version: 9, opset_import: ["" : 18]>
    g (float[N,1,8,8] x) => (float[{out}] logits) <float[4,1,3,3] w = {{{weights(36, 0.1)}}},
        float[1,4,1,1] v = {{0.3, 0.3, 0.2, 0.2}}, int64[1] flat = {{-1}}, int64[2] pair = {{-1, 1}}> {{
        c = Conv <pads: ints = [1,1,1,1]> (x, w)
        s = Conv (c, v)
        {ending}
    }}""")
    path.write_bytes(made.SerializeToString())
    return path


def weights(count: int, value: float) -> str:
    return ", ".join([str(value)] * count)


ENDINGS: dict[str, tuple[str, str]] = {
    "logit": ("a = ReduceMean <keepdims: int = 1> (s, axes)\n logits = Reshape (a, pair)", "N,1"),
    "flat logit": ("a = ReduceMean <keepdims: int = 1> (s, axes)\n logits = Reshape (a, flat)", "N"),
    "sigmoid": (
        "a = ReduceMean <keepdims: int = 1> (s, axes)\n p = Sigmoid (a)\n logits = Reshape (p, pair)", "N,1"
    ),
    "map": ("logits = Identity (s)", "N,1,8,8"),
    "sigmoid map": ("logits = Sigmoid (s)", "N,1,8,8"),
}  # fmt: skip


def made(folder: Path, kind: str) -> Path:
    ending, out = ENDINGS[kind]
    return network(folder, f"axes = Constant <value_ints: ints = [2, 3]> ()\n{ending}", out)


def bright(pictures: Array) -> Array:
    """What the network is about, by hand: the mean of each 3 x 3 neighbourhood, whether it is over zero."""
    padded = np.pad(pictures / 127.5 - 1, ((0, 0), (1, 1), (1, 1)))
    near = sum(padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3))
    return np.asarray(near)


@pytest.mark.parametrize("kind", ENDINGS)
def test_quantize_run_and_evaluate_know_two_classes(kind: str, tmp_path: Path) -> None:
    """Truth by hand: the metric is 100 % for the right one, little for the opposite one; `run` gives the class."""
    model, near, maps = made(tmp_path, kind), bright(PICTURES), "map" in kind
    truth = (near > 0).astype(np.uint8) if maps else (near.mean((1, 2)) > 0).astype(np.int64)
    answers: dict[str, Any] = {"masks" if maps else "y": truth}
    np.savez(tmp_path / "d.npz", x=PICTURES, **answers)
    (tmp_path / "two.txt").write_text("dark\nlight\n")
    metric = "mIoU" if maps else "top-1"

    report = api.quantize(
        model, tmp_path / "n.edge", PICTURES ^ 1, data=tmp_path / "d.npz", search_budget=0, allow_slower=True,
        max_drop=0.3, preprocess="signed", labels=tmp_path / "two.txt",
    )  # fmt: skip
    assert report.warnings == ()
    candidates = report.decision.candidates
    assert candidates[0].accuracy == pytest.approx(1.0, abs=0.01 if maps else 0.0)  # pixels at zero are rounded
    agreed = [c.agreement for c in candidates if c.agreement is not None]  # one that was only raced has none
    assert agreed
    assert min(agreed) > 0.7
    bundle = open_bundle(tmp_path / "n.edge")
    assert (bundle.labels, bundle.sigmoid) == (("dark", "light"), "sigmoid" in kind)

    for who in (tmp_path / "n.edge", model):
        scored = api.evaluate(who, data=tmp_path / "d.npz", preprocess="signed")
        assert (scored.metric, scored.models[0][1].value > 0.7) == (metric, True)
        np.savez(tmp_path / "wrong.npz", x=PICTURES, **{name: 1 - value for name, value in answers.items()})
        assert api.evaluate(who, data=tmp_path / "wrong.npz", preprocess="signed").models[0][1].value < 0.3

    found = api.run(tmp_path / "n.edge", PICTURES)
    if maps:
        assert np.mean([(one.mask == mask).mean() for one, mask in zip(found.masks, truth, strict=True)]) > 0.9
    else:
        assert np.array_equal([one.label == "light" for one in found.classes], truth == 1)
        assert all(one.score + one.top[1].score == pytest.approx(1) and one.score >= 0.5 for one in found.classes)


def test_more_than_two_classes_are_refused_and_told_how(tmp_path: Path) -> None:
    model = made(tmp_path, "logit")
    many = (PICTURES, np.arange(40) % 10)
    with pytest.raises(BadInput, match=r"has 10 classes, .* one score, which tells two apart; --task regression if"):
        api.quantize(model, tmp_path / "n.edge", PICTURES, data=many)
    with pytest.raises(BadInput, match=r"has 10 classes, .* one score, which tells two apart; judge by .*--metric"):
        api.evaluate(model, data=many)


def test_data_may_show_one_of_the_two(tmp_path: Path) -> None:
    scored = api.evaluate(made(tmp_path, "logit"), data=(PICTURES[:4] // 4, np.zeros((4, 1), np.int64)))
    assert scored.models[0][1].value == 1.0


def test_a_map_of_depths_stays_numbers(tmp_path: Path) -> None:
    """Without masks nothing says that one map is of classes; a task that was told outweighs masks."""
    model = made(tmp_path, "map")
    np.savez(tmp_path / "d.npz", x=PICTURES, masks=(PICTURES > 127).astype(np.uint8))
    plain = api.quantize(model, tmp_path / "a.onnx", PICTURES, search_budget=0, allow_slower=True)
    told = api.quantize(
        model, tmp_path / "b.onnx", PICTURES, data=tmp_path / "d.npz", task="regression", search_budget=0,
        allow_slower=True,
    )  # fmt: skip
    for report in (plain, told):
        assert all(c.agreement is None and c.accuracy is None for c in report.decision.candidates)
        assert all(c.snr_db is not None for c in report.decision.candidates if c.name == "int8")
