"""Models with channels last, as TensorFlow's are: the answers of the same network with channels first, everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from data_folders import picture
from edgecnn import api
from edgecnn.cli import main
from edgecnn.data.feeding import other_sizes
from edgecnn.data.pixels import in_words, read_preprocess
from edgecnn.data.seeded import seeded_feeds
from edgecnn.data.textures import texture
from edgecnn.networks.layout import is_ambiguous
from edgecnn.networks.spec import IMAGENET, image_preprocess, preprocess_of, unit_range
from edgecnn.page.pictures import pixels_of
from exporters.pixel_input import with_pixel_input
from runtimes.base import BadInput
from runtimes.bundle import open_bundle
from runtimes.execution.feeds import TensorInfo
from runtimes.imaging.images import read_image
from runtimes.imaging.preprocess import FLOAT32_NHWC, UINT8, UINT8_NHWC, Preprocess, layout_of
from runtimes.imaging.shown import of_array, of_file
from runtimes.session import open_session
from small_nets import conv_net, save

SIZE = 16
QUICK = ["--search-budget", "0", "--allow-slower", "--max-drop", "1"]


def channels_last(model: onnx.ModelProto, sizes: tuple[object, object] = (SIZE, SIZE)) -> onnx.ModelProto:
    """The same function of (N, H, W, C): what tf2onnx writes, a Transpose in front."""
    turned = onnx.ModelProto()
    turned.CopyFrom(model)
    graph = turned.graph
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = "x_nchw" if name == "x" else name
    graph.node.insert(0, helper.make_node("Transpose", ["x"], ["x_nchw"], name="to_nchw", perm=[0, 3, 1, 2]))
    graph.input[0].CopyFrom(helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", *sizes, 3]))
    onnx.checker.check_model(turned, full_check=True)
    return turned


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, str]:
    first = conv_net(size=SIZE)
    return tuple(str(save(m, tmp_path / n)) for m, n in ((first, "first.onnx"), (channels_last(first), "last.onnx")))


@pytest.fixture
def photos(tmp_path: Path) -> str:
    for i in range(20):
        picture(tmp_path / "photos" / str(i % 10) / f"{i}.png", 20 + i, 30, seed=i)
    return str(tmp_path / "photos")


def told(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[Any, str]:
    code = main([*args, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out), err


# -------------------------------------------------------------------------------------------------------- preprocessing
@pytest.mark.parametrize("how", ["caffe", "imagenet", "raw", "signed", "unit"])
def test_pictures_are_those_of_channels_first_turned(how: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    first, last = (read_preprocess(how, (3, 16, 24), layout) for layout in ("float32", FLOAT32_NHWC))
    made = last(image)
    assert np.array_equal(made, first(image).transpose(1, 2, 0))
    assert made.flags.c_contiguous
    assert (made.shape, made.dtype) == (last.shape, last.dtype) == ((16, 24, 3), np.float32)
    assert last.bounds == first.bounds
    assert Preprocess.from_dict(json.loads(json.dumps(last.to_dict()))) == last
    assert last.at((8, 8)).shape == (8, 8, 3)
    assert in_words(last) == f"{in_words(first)}, channels last"


def test_layouts_by_shape() -> None:
    cases = {
        (3, 224, 224): "NCHW", (224, 224, 3): "NHWC", (1, 28, 28): "NCHW", (28, 28, 1): "NHWC",
        ("h", None, 3): "NHWC", (3, "h", "w"): "NCHW", (64, 7, 7): "", (224, 224, 4): "", (10,): "", (3, 32, 3): "NCHW",
    }  # fmt: skip
    assert {sizes: layout_of(sizes) for sizes in cases} == cases
    assert [sizes for sizes in cases if is_ambiguous(sizes)] == [(3, 32, 3)]


def test_what_is_taken_of_a_shape() -> None:
    def of(*shape: object, dtype: str = "float32") -> Preprocess | None:
        return image_preprocess([TensorInfo("x", dtype, ("N", *shape))])

    assert of(24, 16, 3) == Preprocess((24, 16), mean=(0.5,) * 3, std=(0.5,) * 3, input=FLOAT32_NHWC)
    assert of(24, 16, 1) == Preprocess((24, 16), 1, mean=(0.5,), std=(0.5,), input=FLOAT32_NHWC)
    assert of(24, 16, 3, dtype="uint8") == Preprocess((24, 16), input=UINT8_NHWC)
    assert of(3, 224, 224) == IMAGENET
    assert of(24, 16, 4) is None
    assert preprocess_of((8, 8, 3), of(24, 16, 3)) == Preprocess((8, 8), mean=(0.5,) * 3, std=(0.5,) * 3,
                                                                 input=FLOAT32_NHWC)  # fmt: skip
    assert preprocess_of((8, 8, 3), Preprocess((9, 9), input=UINT8_NHWC)) == Preprocess((8, 8), input=UINT8_NHWC)


def test_a_file_decides_where_the_shape_does_not(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"mean": [0.5], "std": [0.5], "input": "float32-nhwc"}')
    assert read_preprocess(str(path), (3, 32, 3)).shape == (3, 32, 3)
    assert read_preprocess(str(path), (3, 32, 3)).size == (3, 32)
    assert read_preprocess(str(path), (3, 8, 8), FLOAT32_NHWC).shape == (8, 8, 3)
    with pytest.raises(BadInput, match=r"p.json: input 'float32-nhwc'; the network takes \[3, 8, 8\], float32: leave"):
        read_preprocess(str(path), (3, 8, 8))
    path.write_text('{"input": "float32"}')
    with pytest.raises(BadInput, match=r"p.json: input 'float32'; the network takes \[8, 8, 3\], float32-nhwc: leave"):
        read_preprocess(str(path), (3, 8, 8), FLOAT32_NHWC)


# ------------------------------------------------------------------------------------------------------------- commands
@pytest.mark.parametrize("how", ["imagenet", "signed"])
def test_evaluate(how: str, models: tuple[str, str], photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, last = (told(capsys, "evaluate", model, "--data", photos, "--preprocess", how)[0] for model in models)
    assert first["models"][0]["value"] == last["models"][0]["value"]
    assert first["warnings"] == last["warnings"]


def test_what_is_assumed_is_told(models: tuple[str, str], photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = told(capsys, "check", models[1], models[1], "--data", photos)
    assert f"warning: {models[1]}: does not say its preprocessing: x/127.5 - 1 is assumed; --preprocess says" in err


def test_an_ambiguous_shape_is_told(tmp_path: Path, photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = '<ir_version: 9, opset_import: ["" : 20]> net (float[N, 3, 16, 3] x) => (float[N, 3] y) {{ y = {} (x) }}'
    made = onnx.parser.parse_model(text.format("ReduceMean <keepdims=0>").replace("(x)", "(x, a)"))
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 3]), "a"))
    model, path = str(save(made, tmp_path / "odd.onnx")), tmp_path / "p.json"
    _, err = told(capsys, "check", model, model, "--data", photos)
    assert "and channels first, of [3, 16, 3]; --preprocess says otherwise, and in a .json " in err
    path.write_text('{"input": "float32-nhwc"}')
    _, err = told(capsys, "check", model, model, "--data", photos, "--preprocess", str(path))
    assert err == ""


def test_check_and_diff(models: tuple[str, str], photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    same = [models[1], models[1], "--data", photos, "--preprocess", "unit"]
    assert told(capsys, "check", *same)[0]["images"] == 20
    assert told(capsys, "diff", *same)[0]["first"] is None


def test_bench_and_inspect(models: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = told(capsys, "bench", models[1], "--iterations", "5", "--warmup", "1")
    assert found["models"][0]["samples"] == 5
    assert [told(capsys, "inspect", model)[0]["layout"] for model in models] == ["NCHW", "NHWC"]
    assert main(["inspect", models[1]]) == 0
    assert "channels last, NHWC" in capsys.readouterr().out


def test_the_whole_way_of_a_bundle(
    models: tuple[str, str], photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles = []
    for model in models:
        bundles.append(str(Path(model).with_suffix(".edge")))
        told(capsys, "quantize", model, "-o", bundles[-1], "--calib", photos, "--preprocess", "imagenet", *QUICK)
    carried = open_bundle(bundles[1]).preprocess
    assert carried == Preprocess((16, 16), mean=IMAGENET.mean, std=IMAGENET.std, input=FLOAT32_NHWC)
    assert told(capsys, "verify", bundles[1])[0]["passed"]
    float_of = [api.evaluate(bundle, data=photos).models[0][1].value for bundle in bundles]
    assert float_of[0] == pytest.approx(float_of[1], abs=0.11)
    answers = [told(capsys, "run", bundle, f"{photos}/0/0.png", f"{photos}/3/3.png")[0] for bundle in bundles]
    for ours, theirs in zip(answers[0]["predictions"], answers[1]["predictions"], strict=True):
        assert {a["label"]: a["score"] for a in ours["top"]} == pytest.approx(
            {a["label"]: a["score"] for a in theirs["top"]}, abs=0.05
        )
    assert main(["report", bundles[1], "-o", str(tmp_path / "page.html")]) == 0
    assert "made 16 x 16 pixels" in (tmp_path / "page.html").read_text()
    assert main(["evaluate", *bundles, "--data", photos]) == 0
    beside = api.evaluate(models[1], bundles[1], data=photos)  # what the file does not say, the bundle does
    assert not any("does not say" in line for line in beside.warnings)
    assert beside.models[0][1].value == api.evaluate(models[0], data=photos, preprocess="imagenet").models[0][1].value


def test_metadata_carries_it(models: tuple[str, str], photos: str, tmp_path: Path) -> None:
    output = tmp_path / "int8.onnx"
    api.quantize(models[1], output, photos, preprocess="unit", search_budget=0, allow_slower=True, max_drop=1)
    plain = api.evaluate(models[1], data=photos, preprocess="unit").warnings
    *others, calibrated = api.evaluate(str(output), data=photos).warnings
    assert (tuple(others), "was calibrated on" in calibrated) == (plain, True)
    again = api.quantize(models[1], tmp_path / "second.onnx", photos, search_budget=0, allow_slower=True, max_drop=1)
    assert any("x/127.5 - 1 is assumed" in line for line in again.warnings)


def test_open_sizes(photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(save(channels_last(conv_net(size=SIZE), ("H", "W")), tmp_path / "open.onnx"))
    assert told(capsys, "inspect", model)[0]["layout"] == "NHWC"
    output = str(tmp_path / "open.edge")
    shape = ["--input-shape", "24,16,3"]
    told(capsys, "quantize", model, "-o", output, "--calib", photos, "--preprocess", "unit", *shape, *QUICK)
    assert open_bundle(output).preprocess == Preprocess((24, 16), input=FLOAT32_NHWC)
    for more in ([], ["--input-shape", "32,32,3"]):
        assert len(told(capsys, "run", output, f"{photos}/0/0.png", *more)[0]["predictions"]) == 1
    assert main(["run", output, f"{photos}/0/0.png", "--input-shape", "3,32,32"]) == 2
    assert told(capsys, "check", model, model, "--input-shape", "1,24,16,3")[0]["passed"]


@pytest.mark.parametrize("how", ["imagenet", "unit"])
@pytest.mark.parametrize("kind", [UINT8, UINT8_NHWC])
def test_pixels_inside_are_equal_to_the_bit(kind: str, how: str) -> None:
    last = channels_last(conv_net(size=SIZE))
    floats, pixels = (read_preprocess(how, (3, SIZE, SIZE), layout) for layout in (FLOAT32_NHWC, kind))
    made = with_pixel_input(last, pixels)
    onnx.checker.check_model(made, full_check=True)
    turned = sum(node.op_type == "Transpose" for node in made.graph.node)
    assert turned == (1 if kind == UINT8_NHWC else 2)  # the model's own, and none that is not needed
    session, reference = open_session(made), open_session(last)
    assert tuple(session.inputs[0].shape[1:]) == pixels.shape
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    want, got = reference({"x": floats(image)[None]})["y"], session({"x": pixels(image)[None]})["y"]
    assert np.array_equal(want, got)


@pytest.mark.parametrize("kind", [UINT8, UINT8_NHWC])
def test_quantize_makes_bundles_that_take_pixels(
    kind: str, models: tuple[str, str], photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "q.edge")
    told(
        capsys, "quantize", models[1], "-o", output, "--calib", photos, "--preprocess", "unit", "--input", kind, *QUICK
    )
    bundle = open_bundle(output)
    assert bundle.preprocess == Preprocess((SIZE, SIZE), input=kind)
    assert bundle.manifest["input"]["dtype"] == "uint8"
    assert bundle.golden()[0][0].shape[1:] == bundle.preprocess.shape
    assert api.verify(output).failure is None
    floats = str(tmp_path / "f.edge")
    told(capsys, "quantize", models[1], "-o", floats, "--calib", photos, "--preprocess", "unit", *QUICK)
    picture = f"{photos}/0/0.png"
    both = [told(capsys, "run", path, picture)[0]["predictions"][0] for path in (output, floats)]
    assert both[0]["label"] == both[1]["label"]
    assert both[0]["score"] == pytest.approx(both[1]["score"], abs=0.02)  # each is float or int8, as its race ended


def test_other_inputs_are_not_made(models: tuple[str, str], photos: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--input float32-nhwc: unknown input"):
        api.quantize(models[1], tmp_path / "q.onnx", photos, input="float32-nhwc")


# ------------------------------------------------------------------------------------------------------- what is shown
def test_arrays_that_are_ready_can_be_seen(tmp_path: Path) -> None:
    ready = Preprocess((8, 12), input=FLOAT32_NHWC)
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    image[0, 0], image[0, 1] = 0, 255
    (shown,) = of_array("a", ready(image), ready)
    assert np.array_equal(shown.pixels(), image)
    assert shown.geometry().size == (8, 12)
    assert np.array_equal(pixels_of(ready(image), ready), image)
    picture(tmp_path / "a.png", 8, 12)
    (file,) = of_file(tmp_path / "a.png", ready, "net.edge")
    assert np.array_equal(file.ready(), ready(read_image(tmp_path / "a.png")))


def test_seeded_pictures_have_the_layout() -> None:
    info = (TensorInfo("x", "float32", ("N", 16, 24, 3)),)
    made = unit_range(16, 24)

    class Side:
        inputs, ranges = info, {"x": (-1.0, 1.0)}
        carried: Preprocess | None = Preprocess((16, 24), mean=made.mean, std=made.std, input=FLOAT32_NHWC)
        preprocess = carried

    pictures = seeded_feeds([Side()], info, 2, 0)["x"]
    Side.carried = None
    within = seeded_feeds([Side()], info, 2, 0)["x"]
    for value in (pictures, within):
        assert value.shape == (2, 16, 24, 3)
        assert -1 <= value.min() < value.max() <= 1
    rng = np.random.default_rng(0)
    pixels = np.stack([texture(16, 24, 3, rng) for _ in range(2)])
    assert np.allclose(within, 2 * (pixels / 255) - 1, atol=1e-6)


def test_other_sizes_are_of_height_and_width() -> None:
    info = (TensorInfo("x", "float32", ("N", "H", "W", 3)),)

    class Side:
        inputs, ranges, carried = info, dict[str, tuple[float, float]](), None
        name, preprocess = "net", None

    made = other_sizes([Side()], {"x": np.zeros((1, 24, 16, 3), np.float32)}, 0)
    assert [feed["x"].shape for feed in made] == [(3, 24, 16, 3), (1, 31, 21, 3)]
