"""What the passes come to on trained networks: never worse on held-out images, above ONNX Runtime's on average."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from accuracy_nets import chain, images
from edgecnn import stages
from edgecnn.data.load import load_data
from edgecnn.networks.sources import resolve
from exporters.quantization import improve as module
from exporters.quantization.improve import ORDER, improve, split
from exporters.quantization.quantize import QuantRecipe, quantize_model
from graphs import parse
from runtimes.base import BadInput, Tensors
from runtimes.parity import compare
from runtimes.session import open_session
from test_equalize import scaled
from test_quantize import Reader

FIXTURES = Path(__file__).parent / "fixtures"
SEEN, UNSEEN = 64, 64


@functools.cache
def digits(name: str) -> tuple[onnx.ModelProto, list[Tensors], list[Tensors]]:
    """(float model, calibration images, images of the test part)."""
    network = resolve(name, FIXTURES / f"{name}_digits.safetensors")
    model, _, _ = stages.float_road(network)
    parts = [load_data("digits", network.ready, limit=n, split=s) for n, s in ((SEEN, "train"), (UNSEEN, "test"))]
    seen, unseen = (list(part.feeds(stages.INPUT_NAME, 1)) for part in parts)
    return model, seen, unseen


@functools.cache
def seeded(name: str) -> tuple[onnx.ModelProto, list[Tensors], list[Tensors]]:
    text = """g (float[N,3,12,12] x) => (float[N,5] y) {
        a = Conv <pads: ints = [1,1,1,1]> (x, w1, b1)
        ar = Relu(a)
        b = Conv <pads: ints = [1,1,1,1]> (ar, w2, b2)
        c = Add(b, ar)
        cr = Relu(c)
        q = GlobalAveragePool(cr)
        f = Flatten(q)
        y = Gemm <transB = 1> (f, w3, b3)
    }"""
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (5, 8), "b3": (5,)}
    model = chain() if name == "chain" else parse(text, **shapes)
    return model, images(SEEN), images(UNSEEN, seed=1)


NETS: dict[str, Callable[[], tuple[onnx.ModelProto, list[Tensors], list[Tensors]]]] = {
    "lenet5": lambda: digits("lenet5"),
    "resnet8": lambda: digits("resnet8"),
    "chain": lambda: seeded("chain"),
    "residual": lambda: seeded("residual"),
}


def theirs(model: onnx.ModelProto, feeds: list[Tensors], method: CalibrationMethod, folder: Path) -> bytes:
    onnx.save(model, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx", folder / "int8.onnx", Reader(feeds), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=method,
    )  # fmt: skip
    return (folder / "int8.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_never_half_a_decibel_under_onnx_runtimes_best_and_above_it_on_average(tmp_path: Path) -> None:
    """On unseen images, beside its U8S8 per-channel QDQ with min-max and with percentile, the better of the two."""
    plain_gains, gains = [], []
    for name, make in NETS.items():
        model, seen, unseen = make()
        reference = open_session(model)
        methods = CalibrationMethod.MinMax, CalibrationMethod.Percentile
        best = max(
            compare(reference, open_session(theirs(model, seen, method, tmp_path)), unseen).snr_db for method in methods
        )
        plain = compare(reference, open_session(quantize_model(model, seen, QuantRecipe()).model), unseen).snr_db
        ours = compare(reference, open_session(improve(model, seen, QuantRecipe()).quantized.model), unseen).snr_db
        assert plain >= best - 0.5, (name, plain, best)
        assert ours >= best - 0.5, (name, ours, best)
        plain_gains.append(plain - best)
        gains.append(ours - best)
    assert np.mean(plain_gains) > 0
    assert np.mean(gains) > 0.5


@pytest.mark.parametrize("name", NETS)
def test_what_is_kept_helps_on_held_out_images(name: str) -> None:
    model, seen, _ = NETS[name]()
    result = improve(model, seen, QuantRecipe())
    assert [effect.name for effect in result.effects] == list(ORDER)
    fit, held = split(seen)
    plain = quantize_model(model, fit, QuantRecipe()).model
    measured = compare(open_session(model), open_session(plain), held).snr_db
    assert measured == pytest.approx(result.plain_db, abs=1e-9)  # the same graph on the same images
    assert result.snr_db == pytest.approx(
        result.plain_db + sum(e.after_db - e.before_db for e in result.effects if e.kept)
    )
    assert result.snr_db >= result.plain_db
    assert any(effect.kept for effect in result.effects)


def test_the_same_images_give_the_same_bytes() -> None:
    model, seen, _ = digits("lenet5")
    one, two = (improve(model, seen, QuantRecipe()).quantized.model.SerializeToString() for _ in range(2))
    assert one == two


def test_a_trained_network_whose_channels_were_rescaled_is_mended() -> None:
    """Powers of two between two convolutions of the trained LeNet: plain int8 loses, equalization brings it back."""
    model, seen, unseen = digits("lenet5")
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    first, second = convolutions[:2]
    channels = next(t.dims[0] for t in model.graph.initializer if t.name == first.input[1])
    factors = 2.0 ** np.random.default_rng(0).integers(-5, 6, channels)
    harmed = scaled(model, first.input[1], first.input[2], second.input[1], factors)
    reference = open_session(model)
    compare(reference, open_session(harmed), unseen).require(snr_db=90)  # the float function is the same
    healthy = compare(reference, open_session(quantize_model(model, seen, QuantRecipe()).model), unseen).snr_db
    hurt = compare(reference, open_session(quantize_model(harmed, seen, QuantRecipe()).model), unseen).snr_db
    result = improve(harmed, seen, QuantRecipe(), passes=("equalize",))
    mended = compare(reference, open_session(result.quantized.model), unseen).snr_db
    assert hurt < healthy - 5
    assert mended > healthy - 1
    assert result.used == ("equalize",)


def test_a_pass_that_harms_is_not_kept_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen, _ = seeded("chain")
    told: list[float] = [30.0, 20.0, 30.05, 31.0, 31.5]
    result = improve(model, seen, QuantRecipe(), score=lambda quantized: told.pop(0))
    assert [effect.kept for effect in result.effects] == [False, False, True, False]  # 0.05 and 0.5 dB are too little
    assert (result.plain_db, result.snr_db) == (30.0, 31.0)


def test_without_time_it_is_plain_quantization_and_says_so() -> None:
    model, seen, _ = seeded("chain")
    result = improve(model, seen, QuantRecipe(), seconds=0.0)
    assert {effect.note for effect in result.effects} == {"not tried: no time was left"}
    plain = quantize_model(model, seen, QuantRecipe()).model
    assert result.quantized.model.SerializeToString() == plain.SerializeToString()


def test_the_parts_are_disjoint_and_fetched_on_demand() -> None:
    fetched = []

    class Counting(list[Tensors]):
        def __getitem__(self, index: int) -> Tensors:  # type: ignore[override]
            fetched.append(index)
            return super().__getitem__(index)

    fit, held = split(Counting(images(9)))
    assert fetched == []
    assert (len(fit), len(held)) == (7, 2)
    list(held)
    assert fetched == [3, 7]
    first = fit[:2]
    assert (len(first), fetched) == (2, [3, 7])
    assert list(first) == [fit[0], fit[1]]
    assert [len(part) for part in split(images(1))] == [1, 1]
    assert len(split(images(200))[1]) == module.MOST_HELD_OUT


def test_an_unknown_pass_answers_with_the_nearest() -> None:
    model, seen, _ = seeded("chain")
    with pytest.raises(BadInput, match="equalise: unknown accuracy pass; did you mean equalize"):
        improve(model, seen, QuantRecipe(), passes=("equalise",))
