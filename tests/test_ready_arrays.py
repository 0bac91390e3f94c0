"""Float arrays are fed as they are: a preprocessing that is said is not for them, one that is guessed is not packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from torch import nn

from edgecnn import road
from edgecnn.choosing.quantizing import quantize
from edgecnn.data.load import load_data
from edgecnn.data.ready_arrays import are_ready, no_pictures, unprepared
from edgecnn.evaluation.evaluate import evaluate
from edgecnn.networks.sources import resolve
from edgecnn.networks.spec import preprocess_for
from edgecnn.networks.weights import load_weights
from edgecnn.prediction.predict import run
from edgecnn.road import named
from edgecnn.training.train import train
from runtimes.base import BadInput
from runtimes.bundle import open_bundle

HERE = __file__
MEL = (1, 12, 20)
GREY = preprocess_for(MEL)


class Mel(nn.Sequential):
    input_shape = MEL

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


class Colours(nn.Sequential):
    input_shape = (3, 12, 20)

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 16, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


SOURCE = f"{HERE}:Mel"


def floats(count: int = 40, shape: tuple[int, ...] = MEL) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, *MEL[1:]), np.uint8)


def test_arrays_are_those_that_somebody_gave() -> None:
    ready, pictures, noise = (load_data(data, GREY or MEL) for data in (floats(), pixels(), "random:4"))
    assert are_ready([ready]) and not are_ready([ready, pictures]) and not are_ready([noise])  # noqa: PT018


def test_only_a_grey_network_without_places_in_the_picture_is_taken_for_none_of_pictures() -> None:
    ready = [load_data(floats(), GREY or MEL)]
    assert no_pictures(GREY, "classification", ready)
    assert not no_pictures(GREY, "segmentation", ready)
    assert not no_pictures(preprocess_for((3, 12, 20)), "classification", ready)
    assert not no_pictures(None, "classification", ready)


def test_a_bundle_of_a_network_that_saw_arrays_alone_takes_arrays(tmp_path: Path) -> None:
    labels = np.arange(40) % 4
    report = road.build(SOURCE, tmp_path / "mel.edge", calib=(floats(), labels), search_budget=0.0, max_drop=1.0)
    assert not any("preprocessing" in line for line in report.warnings)
    assert open_bundle(tmp_path / "mel.edge").preprocess is None
    assert len(run(tmp_path / "mel.edge", [floats(1)[0]]).classes) == 1
    assert evaluate(tmp_path / "mel.edge", data=(floats(), labels)).models[0][1].value >= 0
    Image.fromarray(pixels()[0]).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match="does not say how pictures become these"):
        run(tmp_path / "mel.edge", [str(tmp_path / "a.png")])


def test_what_is_said_or_pictures_in_the_data_keep_the_road_of_pictures() -> None:
    for data in (pixels(), "random:8"):
        network, heard = named(resolve(SOURCE), data, None)  # type: ignore[arg-type]
        assert network.preprocess == GREY
        assert any("x/127.5 - 1 is assumed" in line for line in heard)
    network, heard = named(resolve(f"{HERE}:Colours"), floats(shape=(3, 12, 20)), None)  # type: ignore[arg-type]
    assert network.preprocess is not None
    assert any("ImageNet's mean and deviation are assumed" in line for line in heard), "as the bundle has them"
    assert named(resolve(SOURCE), floats(), None, pictures=True)[0].preprocess == GREY  # type: ignore[arg-type]


def test_a_preprocessing_that_does_nothing_to_the_data_is_told(tmp_path: Path) -> None:
    line = (
        "--preprocess unit: has no effect on calib array, for float arrays are fed as they are; it is for pictures "
        "that the result is given"
    )
    out = tmp_path / "mel.edge"
    assert line in road.build(SOURCE, out, calib=floats(), preprocess="unit", search_budget=0.0).warnings
    assert open_bundle(out).preprocess is not None
    assert (
        line not in road.build(SOURCE, out, calib=pixels(), preprocess="unit", search_budget=0.0, force=True).warnings
    )
    told = evaluate(out, data=(floats(), np.arange(40) % 4), preprocess="unit").warnings
    assert any(one.startswith("--preprocess unit: has no effect on data array") for one in told)
    assert unprepared(None, [load_data(floats(), MEL)]) == ""


def test_the_same_of_an_onnx_file(tmp_path: Path) -> None:
    road.export(SOURCE, tmp_path / "mel.onnx")
    model = onnx.load(tmp_path / "mel.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "mel.onnx")
    for calib, wanted in ((floats(), None), (pixels(), GREY)):
        report = quantize(tmp_path / "mel.onnx", tmp_path / "q.edge", calib, search_budget=0.0, force=True)
        assert open_bundle(tmp_path / "q.edge").preprocess == report.preprocess == wanted
        assert any("is assumed" in line for line in report.warnings) == (wanted is not None)


def test_weights_that_learned_arrays_say_nothing_of_pictures(tmp_path: Path) -> None:
    labels = np.arange(40) % 4
    made = train(SOURCE, (floats(), labels), tmp_path / "w.safetensors", epochs=1, augment=False)
    assert not any("preprocessing" in line for line in made.warnings)
    known = load_weights(tmp_path / "w.safetensors")[1]
    assert known is not None
    assert (known.preprocess, known.input_shape) == (None, MEL)
    network = resolve(SOURCE, tmp_path / "w.safetensors")
    assert named(network, floats(), None)[0].preprocess is None  # type: ignore[arg-type]
    assert named(network, pixels(), None)[0].preprocess == GREY  # type: ignore[arg-type]
    said = train(SOURCE, (floats(), labels), tmp_path / "w.safetensors", epochs=1, preprocess="unit", force=True)
    assert any(line.startswith("--preprocess unit: has no effect on data array,") for line in said.warnings)
    train(SOURCE, (pixels(), labels), tmp_path / "w.safetensors", epochs=1, force=True)
    seen = load_weights(tmp_path / "w.safetensors")[1]
    assert seen is not None
    assert seen.preprocess == GREY


@pytest.mark.parametrize("input", ["uint8", "uint8-nhwc"])
def test_a_bundle_of_pixels_is_not_proven_by_floats(input: str, tmp_path: Path) -> None:
    """One line that names `--input`, before any warning about the preprocessing."""
    told: list[str] = []
    np.save(tmp_path / "mel.npy", floats())
    given, cause = str(tmp_path / "mel.npy"), rf"^--input {input}: asks for pixels, and .*mel\.npy holds floats; give"
    with pytest.raises(BadInput, match=cause):
        road.build(SOURCE, tmp_path / "n.edge", calib=given, preprocess="unit", input=input, tell=told.append)
    model = tmp_path / "n.onnx"
    road.export(SOURCE, model)
    with pytest.raises(BadInput, match=cause):
        quantize(model, tmp_path / "n.edge", given, preprocess="unit", input=input, tell=told.append)
    assert not told
