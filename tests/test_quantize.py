"""The quantizer on real networks and photographs, beside ONNX Runtime's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from conftest import Walked
from edgecnn.networks.sources import Network
from exporters.quantization.calibration import observe
from exporters.quantization.quantize import QuantRecipe, on_ranges, quantize_model
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from runtimes.base import BadInput, Tensors
from runtimes.census import census, kernels_dict
from runtimes.parity import compare
from runtimes.session import open_session

IMAGES = 16


class Reader(CalibrationDataReader):
    def __init__(self, feeds: Sequence[Tensors]) -> None:
        self.feeds: Iterator[Tensors] = iter(feeds)

    def get_next(self) -> Tensors | None:
        return next(self.feeds, None)


def theirs(model: onnx.ModelProto, feeds: Sequence[Tensors], folder: Path) -> bytes:
    """ONNX Runtime's static quantizer at its best for CPUs: U8S8, per channel, min-max."""
    onnx.save(model, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        Reader(feeds),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return (folder / "int8.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "convolutions"), [("resnet18", 20), ("mobilenet_v2", 52), ("lenet5", 2)])
def test_as_good_as_onnx_runtimes_quantizer_and_every_conv_is_integer(
    name: str,
    convolutions: int,
    walk: Callable[[str], Walked],
    photo_feeds: Callable[[Network, int], list[Tensors]],
    tmp_path: Path,
) -> None:
    walked = walk(name)
    feeds = photo_feeds(walked.network, 2 * IMAGES)
    seen, unseen = feeds[:IMAGES], feeds[IMAGES:]
    ours = quantize_model(walked.model, seen, QuantRecipe()).model
    ran = kernels_dict(census(ours, unseen[0]))
    assert ran["QLinearConv"] == convolutions
    assert "Conv" not in ran
    assert "FusedConv" not in ran
    original = open_session(walked.model)
    our_snr = compare(original, open_session(ours), unseen).snr_db
    their_snr = compare(original, open_session(theirs(walked.model, seen, tmp_path)), unseen).snr_db
    assert our_snr >= their_snr - 1.0  # the same grids on the same images; 1 dB for the float logits and pools


def test_calibration_is_the_range_that_numpy_sees() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    rng = np.random.default_rng(3)
    feeds = [{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(5)]
    ranges = observe(model, ["x", "r"], feeds, "minmax").ranges
    inputs = np.stack([feed["x"] for feed in feeds])
    assert ranges["x"] == (float(inputs.min()), float(inputs.max()))
    assert ranges["r"][0] == 0.0  # behind a ReLU
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, None))
    session = open_session(shown)
    assert ranges["r"][1] == max(float(session(feed)["r"].max()) for feed in feeds)


def test_nan_on_the_way_is_named() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    good = {"x": np.ones((1, 3, 8, 8), np.float32)}
    bad = {"x": np.full((1, 3, 8, 8), np.inf, np.float32)}
    with pytest.raises(BadInput, match=r"tensor x is NaN or infinite on batch 1"):
        observe(model, ["x"], [good, bad], "minmax")


def test_no_images_is_bad_input() -> None:
    with pytest.raises(BadInput, match="no images"):
        quantize_model(parse(CONV_RELU_CONV, **WEIGHTS), [], QuantRecipe())


def test_a_quantized_model_is_not_quantized_again() -> None:
    feed = {"x": np.ones((1, 3, 8, 8), np.float32)}
    once = quantize_model(parse(CONV_RELU_CONV, **WEIGHTS), [feed], QuantRecipe()).model
    with pytest.raises(BadInput, match="quantized already"):
        quantize_model(once, [feed], QuantRecipe())


def test_an_old_opset_is_raised_for_the_channel_axis() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    model.opset_import[0].version = 11
    feed = {"x": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    result = quantize_model(model, [feed], QuantRecipe()).model
    assert result.opset_import[0].version == 13
    assert kernels_dict(census(result, feed))["QLinearConv"] == 2


def test_nothing_to_quantize_gives_the_reasons() -> None:
    model = parse("g (float[N,4] x) => (float[N,4] y) { y = Neg(x) }")
    result = quantize_model(model, [{"x": np.ones((1, 4), np.float32)}], QuantRecipe())
    assert result.int8_nodes == 0
    assert result.float_nodes == (("y", "Neg has no int8 kernel"),)
    assert not any(n.op_type == "QuantizeLinear" for n in result.model.graph.node)


def test_a_pattern_that_matches_nothing_is_a_typing_mistake() -> None:
    feed = {"x": np.ones((1, 3, 8, 8), np.float32)}
    with pytest.raises(BadInput, match=r"--exclude b: unknown node"):
        quantize_model(parse(CONV_RELU_CONV, **WEIGHTS), [feed], QuantRecipe(exclude=("b",)))


def test_a_node_without_a_name_is_excluded_by_what_it_makes() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    for node in model.graph.node:
        node.name = ""
    feed = {"x": np.ones((1, 3, 8, 8), np.float32)}
    assert ("a", "excluded by a") in quantize_model(model, [feed], QuantRecipe(exclude=("a",))).float_nodes
    with pytest.raises(BadInput, match=r"--exclude b: unknown node; known: a, r, y"):
        quantize_model(model, [feed], QuantRecipe(exclude=("b",)))


POOLED = """g (float[N,3,8,8] x) => (float[N,4,4,4] y) {
    a = Conv <pads: ints = [1,1,1,1]> (x, w1, b1)
    r = MaxPool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (a)
    y = Conv <pads: ints = [1,1,1,1]> (r, w2)
}"""


def test_tensors_that_share_a_grid_when_all_is_int8_keep_its_range_when_they_part() -> None:
    """With the first layer in float, the pool's output needs a grid of its own: the range of what it pools."""
    model = parse(POOLED, **WEIGHTS)
    feeds = [{"x": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}]
    whole = quantize_model(model, feeds, QuantRecipe())
    parted = on_ranges(model, QuantRecipe(exclude=("a",)), whole.ranges)
    assert "r" not in whole.ranges
    assert kernels_dict(census(parted.model, feeds[0]))["QLinearConv"] == 1
    with pytest.raises(BadInput, match="tensor r was not observed; calibrate again"):
        on_ranges(model, QuantRecipe(exclude=("a",)), {"x": (0.0, 1.0)})
