"""The real road on the real networks: parity at every stage, our fold, an honest choice, a bundle with its proof."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from conftest import Walked
from edgecnn import road, stages
from edgecnn.choosing.quantizing import quantize
from edgecnn.float_passes import FLOAT_LIMIT_DB, FLOAT_PASSES, NOISE_MARGIN_DB
from edgecnn.networks.sources import Network, resolve
from edgecnn.networks.spec import unit_range
from edgecnn.prediction import predict
from exporters import artifact
from exporters.graph import MODULE_KEY, get_meta, op_counts
from exporters.load import load_model
from runtimes.base import BadInput, CheckFailed
from runtimes.bundle import open_bundle, verify
from runtimes.parity import compare
from runtimes.session import open_session

FIXTURES = Path(__file__).parent / "fixtures"
LENET = FIXTURES / "lenet5_digits.safetensors"
BATCHNORMS = {"lenet5": 0, "resnet18": 20, "mobilenet_v2": 52, "resnet50": 53}


@pytest.mark.parametrize("call", ["export", "build"])
def test_a_network_too_large_for_a_graph_is_refused_before_the_work(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "SIZE_LIMIT_BYTES", 100_000)
    monkeypatch.setattr(stages, "float_road", None)
    calls = {
        "export": lambda: road.export("lenet5", tmp_path / "net.onnx"),
        "build": lambda: road.build("lenet5", tmp_path / "net.edge", calib="digits"),
    }
    with pytest.raises(BadInput, match=r"^lenet5: has 0\.0 GB of weights, and an ONNX graph .* at most 0\.0 GB"):
        calls[call]()


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHNORMS)
def test_every_float_stage_is_the_same_function(name: str, walk: Callable[[str], Walked]) -> None:
    walked = walk(name)
    by_name = {stage.name: stage for stage in walked.stages}
    assert list(by_name) == ["export", *FLOAT_PASSES]
    for stage in walked.stages:
        # 60 layers of float32 sums in another order leave 100 to 140 dB; a wrong epsilon alone leaves under 90
        assert stage.snr_db is not None
        assert stage.snr_db >= 100, stage
        # and no stage adds more than the rounding that the module itself has against float64
        assert stage.snr_db >= walked.reference.noise_db - NOISE_MARGIN_DB, stage
    assert by_name["export"].ops.get("BatchNormalization", 0) == BATCHNORMS[name]
    assert by_name["simplify"].ops.get("BatchNormalization", 0) == BATCHNORMS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHNORMS)
def test_the_fold_is_ours_and_exact(name: str, walk: Callable[[str], Walked]) -> None:
    """All BatchNorms arrive at our pass, and none leaves it: without the pass this fails."""
    walked = walk(name)
    assert "BatchNormalization" not in op_counts(walked.model)
    before = next(stage for stage in walked.stages if stage.name == "simplify")
    assert before.ops.get("BatchNormalization", 0) == BATCHNORMS[name]
    folded = next(stage for stage in walked.stages if stage.name == "fold_batchnorm")
    assert f"{BATCHNORMS[name]} changed" in folded.note or BATCHNORMS[name] == 0


def test_without_the_fold_the_batchnorms_stay() -> None:
    network = resolve("resnet8")
    model, done, _ = stages.float_road(network, skip=["fold_batchnorm"])
    assert op_counts(model)["BatchNormalization"] == 7
    assert [stage.name for stage in done] == ["export", *(name for name in FLOAT_PASSES if name != "fold_batchnorm")]


@pytest.mark.slow
def test_modules_survive_the_whole_float_road(walk: Callable[[str], Walked]) -> None:
    paths = {get_meta(n).get(MODULE_KEY) for n in walk("resnet18").model.graph.node if n.op_type == "Conv"}
    assert "layer1.0.conv1" in paths
    assert len(paths) == 20


def test_a_stage_that_changes_the_function_stops_the_road(monkeypatch: pytest.MonkeyPatch) -> None:
    real = stages.run_pass

    def broken(name: str, model: onnx.ModelProto, *more: object, **options: object) -> tuple[onnx.ModelProto, str]:
        model, note = real(name, model, *more, **options)
        if name == "fold_batchnorm":
            bias = next(t for t in model.graph.initializer if len(t.dims) == 1)
            values = np.frombuffer(bias.raw_data, np.float32) * np.float32(1.001)
            bias.raw_data = values.tobytes()
        return model, note

    monkeypatch.setattr(stages, "run_pass", broken)
    with pytest.raises(CheckFailed, match=r"stage fold_batchnorm: output logits: SNR .* PyTorch module"):
        stages.float_road(resolve("resnet8"))


def test_a_noisy_network_is_held_to_its_own_noise() -> None:
    """Differences of large numbers: float32 itself keeps only about 50 dB here, and the stages say so."""

    class Cancelling(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ((x + 1000.0) - x.mean((1, 2, 3), keepdim=True) * 1000.0).sum((2, 3)) - 64000.0

    noisy = Network("noisy", Cancelling(), (1, 8, 8), unit_range(8, 8, channels=1))
    _, done, reference = stages.float_road(noisy)
    noted = stages.held_to(done, reference)
    worst = min(stage.snr_db or 0.0 for stage in done)
    if worst < FLOAT_LIMIT_DB:  # depends on how this CPU orders its sums
        assert any("own float32 noise" in stage.note for stage in noted)
    assert worst >= min(FLOAT_LIMIT_DB, reference.noise_db - NOISE_MARGIN_DB)


# ---------------------------------------------------------------------------------------------------------- export
def test_export_writes_a_model_that_knows_where_it_came_from(tmp_path: Path) -> None:
    report = road.export("lenet5", tmp_path / "m.onnx", weights=LENET)
    model = load_model(tmp_path / "m.onnx")
    assert artifact.read_stages(model) == report.stages
    identity = artifact.read_identity(model)
    assert identity is not None
    assert (identity.name, identity.labels) == ("lenet5", tuple("0123456789"))
    assert identity.preprocess is not None
    assert not report.seeded
    assert json.loads(json.dumps(report.to_dict()))["stages"][0]["name"] == "export"


def test_export_without_weights_says_that_they_are_random(tmp_path: Path) -> None:
    assert road.export("lenet5", tmp_path / "m.onnx").seeded


def test_static_export_takes_one_image(tmp_path: Path) -> None:
    road.export("lenet5", tmp_path / "m.onnx", weights=LENET, dynamic=False, simplify=False)
    assert open_session(tmp_path / "m.onnx").inputs[0].shape == (1, 1, 32, 32)


class TwoAtOnce(nn.Module):
    """Tracing fixes its batch; it runs on any."""

    input_shape = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turn = nn.functional.affine_grid(torch.eye(2, 3)[None].repeat(len(x), 1, 1), list(x.shape), align_corners=False)
        return self.fc(self.conv(nn.functional.grid_sample(x, turn, align_corners=False)).mean((2, 3)))


def test_a_batch_that_tracing_fixes_is_built_one_image_at_a_time(tmp_path: Path) -> None:
    calib = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    with pytest.raises(BadInput, match="add --static"):
        road.build(TwoAtOnce(), tmp_path / "two.edge", calib=calib, search_budget=0)
    path = tmp_path / "one.edge"
    road.build(TwoAtOnce(), path, calib=calib, search_budget=0, max_drop=1.0, dynamic=False)
    bundle = open_bundle(path)
    assert verify(bundle).passed
    assert bundle.session().inputs[0].shape == (1, 3, 8, 8)
    assert len(predict.run(path, calib[:3]).predictions) == 3


class InHalf(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3).half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.half()).float().mean((2, 3))


def test_code_that_fixes_its_types_is_held_to_the_draws_alone(tmp_path: Path) -> None:
    report = road.export(InHalf(), tmp_path / "half.onnx")
    assert all(stage.snr_db is not None and stage.snr_db > 60 for stage in report.stages)


def test_the_same_export_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    for name in ("a.onnx", "b.onnx"):
        road.export("lenet5", tmp_path / name, weights=LENET)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


# -------------------------------------------------------------------------------------------------------- quantize
def test_quantize_of_lenet_is_honest(tmp_path: Path) -> None:
    """LeNet-5 is too small for int8 to pay; whatever this machine says, the file is what the verdict says."""
    road.export("lenet5", tmp_path / "m.onnx", weights=LENET)
    report = quantize(tmp_path / "m.onnx", tmp_path / "q.onnx", "digits", data="digits", limit=32, search_budget=2)
    assert report.int8_nodes > 0
    assert report.speedup is not None
    assert report.accuracy is not None
    assert report.accuracy["float"] >= 0.97  # the fixture's own accuracy
    assert report.accuracy["drop"] <= 0.01
    ops = op_counts(load_model(tmp_path / "q.onnx"))
    assert ("QuantizeLinear" in ops) == (report.chosen != "float") == (report.speedup.verdict == "faster")
    assert ("kept float" in report.verdict) == (report.chosen == "float")
    document = report.to_dict()
    assert set(document) >= {"output", "chosen", "recipe", "speedup", "int8_nodes", "float_nodes", "snr_db"}
    described = next(c for c in document["candidates"] if c["name"] == document["describes"])
    assert described["kind"] != "float"  # also where float was chosen
    assert (described["speedup"], described["snr_db"]) == (document["speedup"], document["snr_db"])


def test_allow_slower_forces_int8(tmp_path: Path) -> None:
    road.export("lenet5", tmp_path / "m.onnx", weights=LENET)
    report = quantize(
        tmp_path / "m.onnx", tmp_path / "q.onnx", "digits",
        data="digits", limit=32, allow_slower=True, search_budget=0,
    )  # fmt: skip
    assert report.chosen in ("int8", "mixed")  # mixed: unsigned weights may be slower than float
    model = load_model(tmp_path / "q.onnx")
    assert [s.name for s in artifact.read_stages(model)] == ["export", *FLOAT_PASSES, "quantize"]
    recipe = json.loads(get_meta(model)[artifact.RECIPE_KEY])
    assert (recipe["calibrator"], recipe["data"], recipe["images"]) == ("minmax", "digits", 32)


def test_quantize_folds_a_model_from_elsewhere_first(tmp_path: Path) -> None:
    road.export("resnet8", tmp_path / "m.onnx", fold=False, simplify=False)
    model = load_model(tmp_path / "m.onnx")
    del model.metadata_props[:]  # as another exporter would write it
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    report = quantize(
        tmp_path / "m.onnx", tmp_path / "q.onnx", "digits",
        limit=8, allow_slower=True, max_drop=1.0, search_budget=0,
    )  # fmt: skip
    ops = op_counts(load_model(tmp_path / "q.onnx"))
    assert "BatchNormalization" not in ops
    assert report.chosen in ("int8", "mixed")  # mixed: layers whose sums saturate here may be faster in float


# ----------------------------------------------------------------------------------------------------------- build
def test_build_packs_the_faster_model_with_its_proof(tmp_path: Path) -> None:
    report = road.build(
        "lenet5", tmp_path / "n.edge", weights=LENET, calib="digits", data="digits", limit=32, search_budget=0
    )
    bundle = open_bundle(tmp_path / "n.edge")
    assert bundle.chosen == report.chosen
    assert bundle.manifest["verdict"] == report.verdict
    assert bundle.labels == tuple("0123456789")
    assert verify(bundle).passed
    assert [s["name"] for s in bundle.manifest["stages"]] == ["export", *FLOAT_PASSES, "quantize"]
    network = resolve("lenet5", LENET)
    inputs, outputs = bundle.golden()
    with torch.no_grad():
        mine = network.module(torch.from_numpy(inputs[0])).numpy()
    np.testing.assert_allclose(outputs[0], mine, atol=1e-5)  # golden outputs are PyTorch's own; batch size may differ
    times = bundle.manifest["race"]["times_ms"]
    assert len(times["float"]) == len(times["int8"]) >= 6
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["chosen"] == report.chosen


def test_an_existing_output_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "n.edge").write_bytes(b"mine")
    with pytest.raises(BadInput, match="exists already"):
        road.build("lenet5", tmp_path / "n.edge", weights=LENET, calib="digits")
    assert (tmp_path / "n.edge").read_bytes() == b"mine"


def test_nan_in_the_calibration_data_names_the_image_and_writes_nothing(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(4, 1, 32, 32)).astype(np.float32)
    images[2, 0, 5, 5] = np.nan
    np.save(tmp_path / "x.npy", images)
    with pytest.raises(BadInput, match=r"x\.npy.*2.*NaN"):
        road.build("lenet5", tmp_path / "n.edge", weights=LENET, calib=str(tmp_path / "x.npy"))
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_random_calibration_is_written_into_the_recipe(tmp_path: Path) -> None:
    report = road.build("lenet5", tmp_path / "n.edge", weights=LENET, calib="random:4", search_budget=0)
    assert "random" in report.quantized.recipe.data
    assert "random" in open_bundle(tmp_path / "n.edge").manifest["recipe"]["data"]


def test_float_and_int8_of_one_build_agree_on_digits(tmp_path: Path) -> None:
    report = road.build(
        "lenet5", tmp_path / "n.edge", weights=LENET, calib="digits", data="digits", limit=64, search_budget=0
    )
    rival = report.decision.rival
    assert rival is not None
    assert rival.snr_db is not None
    assert rival.snr_db > 20  # trained, shallow, min-max: 25 to 40 dB
    assert rival.accuracy is not None
    assert rival.accuracy >= 0.96
    float_session = open_bundle(tmp_path / "n.edge").session()
    feed = {"input": np.zeros((1, 1, 32, 32), np.float32)}
    assert compare(float_session, float_session, [feed]).max_abs == 0.0


FOUR_CHANNELS = """
import torch
from torch import nn

def build(num_classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, num_classes))

build.input_shape = (4, 8, 8)
"""


def test_a_network_that_takes_no_pictures_walks_the_road_on_arrays(tmp_path: Path) -> None:
    """Four channels (RGB and depth, say): no preprocessing of ours, ready float arrays in and out."""
    (tmp_path / "nets.py").write_text(FOUR_CHANNELS)
    arrays = np.random.default_rng(0).normal(size=(12, 4, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", arrays)
    (tmp_path / "names.txt").write_text("left\nright\nahead\n")
    report = road.build(
        f"{tmp_path / 'nets.py'}:build",
        tmp_path / "n.edge",
        calib=str(tmp_path / "x.npy"),
        labels=tmp_path / "names.txt",
        max_drop=1.0,
        search_budget=0,
    )
    bundle = open_bundle(tmp_path / "n.edge")
    assert bundle.preprocess is None
    assert bundle.labels == ("left", "right", "ahead")
    assert verify(bundle).passed
    assert report.stages[0].snr_db is not None
    answers = predict.run(tmp_path / "n.edge", tmp_path / "x.npy").predictions
    assert len(answers) == 12
    wanted = bundle.session()({"input": arrays})["logits"].argmax(axis=1)
    assert [answer.label for answer in answers] == [bundle.labels[i] for i in wanted]


def test_too_few_labels_are_bad_input(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('["a", "b"]')
    with pytest.raises(BadInput, match="holds 2 names, the network has 10 classes"):
        road.export("lenet5", tmp_path / "m.onnx", weights=LENET, labels=tmp_path / "names.json")


def test_a_fixed_batch_of_one_is_quantized_and_judged(tmp_path: Path) -> None:
    """What torch.onnx.export writes by default."""
    road.export("lenet5", tmp_path / "m.onnx", weights=LENET, dynamic=False)
    report = quantize(tmp_path / "m.onnx", tmp_path / "q.onnx", "digits", data="digits", limit=8, search_budget=0)
    assert report.accuracy is not None
    assert report.accuracy["float"] >= 0.97


class Convolution(torch.nn.Module):
    """Any size in, any size out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x))


def test_a_model_of_open_size_is_quantized_at_a_size_and_stays_open(tmp_path: Path) -> None:
    torch.manual_seed(0)
    road.export(Convolution(), tmp_path / "m.onnx", input_shape="3,32,32")
    model = load_model(tmp_path / "m.onnx")
    del model.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output]:
        for axis, name in ((2, "h"), (3, "w")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]
    (tmp_path / "open.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match="input-shape"):
        quantize(tmp_path / "open.onnx", tmp_path / "q.onnx", "random:4")
    report = quantize(
        tmp_path / "open.onnx",
        tmp_path / "q.onnx",
        "random:4",
        input_shape="1,3,24,40",
        allow_slower=True,
        max_drop=1.0,
        search_budget=0,
    )
    assert report.chosen in ("int8", "mixed")
    assert open_session(tmp_path / "q.onnx").inputs[0].shape[1:] == (3, "h", "w")


def test_a_module_stands_for_itself(tmp_path: Path) -> None:
    report = road.export(Convolution(), tmp_path / "m.onnx", input_shape="3,8,8")
    assert not report.seeded
    identity = artifact.read_identity(load_model(tmp_path / "m.onnx"))
    assert identity is not None
    assert (identity.name, identity.task) == ("Convolution", "other")
    assert open_session(tmp_path / "m.onnx").outputs[0].name == "output"


def test_what_the_user_says_of_pixels_is_what_is_shipped(tmp_path: Path) -> None:
    report = road.build(
        "lenet5", tmp_path / "n.edge", weights=LENET, calib="random:4", preprocess="unit", search_budget=0
    )
    preprocess = open_bundle(tmp_path / "n.edge").preprocess
    assert preprocess is not None
    assert (preprocess.mean, preprocess.std) == ((0.0,), (1.0,))
    assert any("x/255" in note for note in report.notes)


@pytest.fixture
def nameless(tmp_path: Path) -> tuple[str, str]:
    """(SOURCE, DATA): a network without class names, and class folders with as many classes."""
    (tmp_path / "nets.py").write_text(FOUR_CHANNELS.replace("Conv2d(4,", "Conv2d(3,").replace("(4, 8, 8)", "(3, 8, 8)"))
    for name in ("ant", "bee", "cow"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(tmp_path / "data" / name / f"{i}.png")
    return f"{tmp_path / 'nets.py'}:build", str(tmp_path / "data")


def test_class_folders_of_the_labelled_data_name_a_network_and_say_so(
    nameless: tuple[str, str], tmp_path: Path
) -> None:
    source, data = nameless
    report = road.build(source, tmp_path / "n.edge", calib=data, data=data, max_drop=1.0, search_budget=0)
    assert open_bundle(tmp_path / "n.edge").labels == ("ant", "bee", "cow")
    (line,) = [line for line in report.warnings if "alphabetical" in line]
    assert line.startswith(f"classes are named after the folders of {data}, in alphabetical order (ant, bee, cow)")
    assert line in report.to_dict()["warnings"]


def test_folders_of_the_calibration_images_name_nothing(nameless: tuple[str, str], tmp_path: Path) -> None:
    source, data = nameless
    report = road.build(source, tmp_path / "n.edge", calib=data, max_drop=1.0, search_budget=0)
    assert open_bundle(tmp_path / "n.edge").labels == ()
    assert any("--calib" in line and "--labels FILE" in line for line in report.warnings)


def test_names_that_the_user_gives_are_not_doubted(nameless: tuple[str, str], tmp_path: Path) -> None:
    source, data = nameless
    (tmp_path / "names.txt").write_text("cow\nant\nbee\n")
    names = tmp_path / "names.txt"
    report = road.build(source, tmp_path / "n.edge", calib=data, data=data, labels=names, max_drop=1.0, search_budget=0)
    assert open_bundle(tmp_path / "n.edge").labels == ("cow", "ant", "bee")
    assert not any("folders" in line for line in report.warnings)


def test_a_bundle_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"ends in \.edge; give .*n\.edge"):
        road.build("lenet5", tmp_path / "n.onnx", weights=LENET, calib="digits")


def test_a_draw_of_rounding_moves_every_weight_to_its_neighbour() -> None:
    module = nn.Conv2d(3, 8, 3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    one, again, other = (stages.rounded_otherwise(module, seed).state_dict() for seed in (0, 0, 1))
    for name, value in before.items():
        assert torch.equal(module.state_dict()[name], value)
        assert torch.equal(one[name], again[name])
        assert not torch.equal(one[name], other[name])
        near = [torch.nextafter(value, torch.full_like(value, end)) for end in (-torch.inf, torch.inf)]
        assert bool(((one[name] == near[0]) | (one[name] == near[1])).all())


CANCELS = """
import torch
from torch import nn

class Cancels(nn.Module):
    input_shape = (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
        for layer in (self.a, self.b):
            nn.init.constant_(layer.weight, 1.5)

    def forward(self, x):
        return self.a(x) - self.b(x) + x * 2.0**-12
"""


def test_the_noise_of_a_network_is_its_worst_draw(tmp_path: Path) -> None:
    """Two filters that cancel: exact as they are, so that float64 alone would call the network noiseless."""
    (tmp_path / "nets.py").write_text(CANCELS)
    network = resolve(f"{tmp_path / 'nets.py'}:Cancels")
    reference = stages.Reference(network, stages.made_images(network, True, 0), ("y",))
    assert 50 < reference.noise_db < 90  # a unit in the last place is 2^-23, of what is left 2^-11: 66 dB
