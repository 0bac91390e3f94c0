"""Pixels as the model's input: equal bits, the free form where the grid is that of the pixels, the whole road."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn import api
from edgecnn.data.load import load_data
from exporters import pixel_input
from exporters.graph import op_counts
from exporters.load import load_model
from exporters.pixel_input import normalization, with_pixel_input
from exporters.quantization.quantize import QuantRecipe, quantize_model
from graphs import parse
from runtimes.base import BadInput, CheckFailed
from runtimes.bundle import open_bundle
from runtimes.imaging.preprocess import FLOAT32, UINT8, UINT8_NHWC, Preprocess
from runtimes.session import open_session
from small_nets import conv_net

FIXTURES = Path(__file__).parent / "fixtures"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HOW = [{}, {"mean": (0.5,), "std": (0.5,)}, IMAGENET, {"std": (1 / 255,)}]
"""x/255, -1 to 1, ImageNet's, 0 to 255."""


def pictures(count: int = 4, channels: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (8, 8, channels)).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize("kind", [UINT8, UINT8_NHWC])
@pytest.mark.parametrize("how", HOW)
def test_the_outputs_are_equal_to_the_bit(kind: str, how: dict[str, tuple[float, ...]]) -> None:
    floats, pixels = Preprocess((8, 8), 3, **how), Preprocess((8, 8), 3, input=kind, **how)
    net = conv_net()
    before = net.SerializeToString()
    made = with_pixel_input(net, pixels)
    assert net.SerializeToString() == before
    onnx.checker.check_model(made, full_check=True)
    session, reference = open_session(made), open_session(net)
    assert session.inputs[0].dtype == "uint8"
    assert tuple(session.inputs[0].shape[1:]) == pixels.shape == pixels(pictures()[0]).shape
    for picture in pictures():
        want, got = reference({"x": floats(picture)[None]})["y"], session({"x": pixels(picture)[None]})["y"]
        assert np.array_equal(want, got)


def test_weights_that_a_caller_may_override_are_no_further_inputs() -> None:
    floats, pixels, net = Preprocess((8, 8), 3), Preprocess((8, 8), 3, input=UINT8), conv_net()
    for tensor in net.graph.initializer:
        net.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    made, picture = open_session(with_pixel_input(net, pixels)), pictures()[0]
    want = open_session(net)({"x": floats(picture)[None]})["y"]
    assert np.array_equal(made({"x": pixels(picture)[None]})["y"], want)


def test_several_images_at_once() -> None:
    pixels = Preprocess((8, 8), 3, input=UINT8_NHWC, **IMAGENET)  # type: ignore[arg-type]
    session = open_session(with_pixel_input(conv_net(), pixels))
    batch = np.stack([pixels(picture) for picture in pictures()])
    alone = np.concatenate([session({"x": one[None]})["y"] for one in batch])
    np.testing.assert_allclose(session({"x": batch})["y"], alone, rtol=1e-5, atol=1e-5)


def test_operations_that_change_nothing_are_left_out() -> None:
    assert [op for op, _ in normalization(Preprocess((8, 8), 3))] == ["Div"]
    assert [op for op, _ in normalization(Preprocess((8, 8), 3, **IMAGENET))] == ["Div", "Sub", "Div"]  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- integers
TEXT = "g (float[N,3,8,8] x) => (float[N,4,6,6] y) { a = Conv(x, w) \n r = Relu(a) \n y = Conv(r, v) }"


def integer(how: dict[str, tuple[float, ...]]) -> onnx.ModelProto:
    """A quantized network whose images reach from black to white."""
    floats = Preprocess((8, 8), 3, **how)
    net = parse(TEXT.replace("6,6", "6,6"), w=(4, 3, 3, 3), v=(4, 4, 1, 1))
    ends = [np.full((8, 8, 3), level, np.uint8) for level in (0, 255)]
    return quantize_model(net, [{"x": floats(p)[None]} for p in [*ends, *pictures()]], QuantRecipe()).model


@pytest.mark.parametrize(
    ("how", "free"),
    [({}, True), ({"std": (1 / 255,)}, True), ({"mean": (0.5,), "std": (0.5,)}, False), (IMAGENET, False)],
)
@pytest.mark.parametrize("kind", [UINT8, UINT8_NHWC])
def test_where_the_grid_is_that_of_the_pixels_nothing_is_computed(
    kind: str, how: dict[str, tuple[float, ...]], free: bool
) -> None:
    before = integer(how)
    pixels = Preprocess((8, 8), 3, input=kind, **how)
    after = with_pixel_input(before, pixels)
    ops, old = op_counts(after), op_counts(before)
    assert ("Cast" not in ops) == free
    assert ops["QuantizeLinear"] == old["QuantizeLinear"] - free
    session, reference = open_session(after), open_session(before)
    for picture in pictures():
        want = reference({"x": Preprocess((8, 8), 3, **how)(picture)[None]})["y"]
        assert np.array_equal(want, session({"x": pixels(picture)[None]})["y"])


def test_a_grid_that_is_off_by_one_level_is_not_free() -> None:
    """Calibrated on images that reach 254 only: pixel 255 would be 254's."""
    net = parse(TEXT, w=(4, 3, 3, 3), v=(4, 4, 1, 1))
    dark = [{"x": Preprocess((8, 8), 3)(np.minimum(p, 254))[None]} for p in pictures()]
    after = with_pixel_input(quantize_model(net, dark, QuantRecipe()).model, Preprocess((8, 8), 3, input=UINT8))
    assert "Cast" in op_counts(after)


def test_a_difference_of_one_bit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pixel_input.normalization
    off = lambda p, last: [(op, np.nextafter(v, np.float32(999))) for op, v in real(p, last)]  # noqa: E731
    monkeypatch.setattr(pixel_input, "normalization", off)
    with pytest.raises(CheckFailed, match="not equal to the bit"):
        with_pixel_input(conv_net(), Preprocess((8, 8), 3, input=UINT8))


def test_models_without_one_picture_are_refused() -> None:
    with pytest.raises(BadInput, match="one float32 input"):
        with_pixel_input(parse("g (float[N,4] x) => (float[N,4] y) { y = Neg(x) }"), Preprocess((2, 2), input=UINT8))


# ------------------------------------------------------------------------------------------------- the preprocessing
def test_the_setting_travels_and_older_files_do_not_know_it() -> None:
    for kind in (UINT8, UINT8_NHWC):
        known = Preprocess((8, 6), 3, input=kind)
        assert Preprocess.from_dict(known.to_dict()) == known
        picture = np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(np.uint8)
        np.testing.assert_array_equal(known.floats(known(picture)), Preprocess((8, 6), 3)(picture))
    assert "input" not in Preprocess((8, 6)).to_dict()
    assert Preprocess((8, 6)).input == FLOAT32
    with pytest.raises(BadInput, match="did you mean uint8"):
        Preprocess((8, 6), input="uint")


def test_data_for_pixels_is_pixels() -> None:
    ready = Preprocess((8, 8), 3, input=UINT8_NHWC)
    for spec in ("random:2", "digits"):
        sample = load_data(spec, ready, limit=2)[0]
        assert (sample.dtype, sample.shape) == (np.uint8, (8, 8, 3))


def test_floats_are_no_pixels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 8, 8), np.float32))
    with pytest.raises(BadInput, match="this network needs uint8 or uint16 images"):
        load_data(str(tmp_path / "x.npy"), Preprocess((8, 8), 3, input=UINT8))


# --------------------------------------------------------------------------------------------------------- the road
@pytest.mark.parametrize("kind", [UINT8, UINT8_NHWC])
def test_a_bundle_that_takes_pixels(kind: str, tmp_path: Path) -> None:
    weights = FIXTURES / "lenet5_digits.safetensors"
    bundle, picture = tmp_path / "n.edge", tmp_path / "x.npy"
    report = api.build("lenet5", bundle, weights=weights, calib="digits", data="digits", limit=16, search_budget=0,
                       allow_slower=True, input=kind)  # fmt: skip
    opened = open_bundle(bundle)
    assert opened.manifest["input"]["dtype"] == "uint8"
    assert opened.golden()[0][0].dtype == np.uint8
    assert opened.preprocess is not None
    assert opened.preprocess.input == kind
    assert api.verify(bundle).failure is None
    judged = load_data("digits", Preprocess((32, 32), 1), split="test")
    assert judged.labels is not None
    np.save(picture, np.stack([np.rint(judged[i][0] * 255).astype(np.uint8) for i in range(16)]))
    labels = [prediction.top[0].label for prediction in api.run(bundle, picture).predictions]
    assert sum(a == str(b) for a, b in zip(labels, judged.labels, strict=False)) >= 14
    found = api.evaluate(bundle, data="digits").models[0][1].value
    assert report.accuracy is not None
    assert found == pytest.approx(report.accuracy["int8"])


def test_a_model_from_elsewhere_says_what_it_takes_from_now_on(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(conv_net(size=8).SerializeToString())
    report = api.quantize(tmp_path / "m.onnx", tmp_path / "q.onnx", "random:3", input=UINT8, search_budget=0)
    assert report.preprocess is not None
    assert report.preprocess.input == UINT8
    model = load_model(tmp_path / "q.onnx")
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert api.bench([tmp_path / "q.onnx"], iterations=6).models[0].latency.p50_ms > 0


@pytest.mark.parametrize("kind", ["uint9", "uint8"])
def test_what_cannot_be_is_said_before_any_work(kind: str, tmp_path: Path) -> None:
    net = parse("g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", w=(4, 4))
    (tmp_path / "m.onnx").write_bytes(net.SerializeToString())
    with pytest.raises(BadInput, match=r"did you mean uint8|takes no pictures"):
        api.quantize(tmp_path / "m.onnx", tmp_path / "q.onnx", "random:3", input=kind)
