"""What `quantize` is told of a model from elsewhere, what it says of labels that it cannot use, and of its images."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from edgecnn.choosing.choose import Candidate, Decision
from edgecnn.choosing.evidence import far_off, judged_by_few, judged_by_nothing, of_verdict
from edgecnn.choosing.keeper import Aimed
from edgecnn.choosing.quantizing import quantize
from edgecnn.choosing.trial import Trial
from edgecnn.cli import main
from edgecnn.data.load import load_data
from edgecnn.data.material import Material
from exporters.artifact import read_identity
from exporters.load import load_model
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess
from small_nets import conv_net, save
from small_nets import model as model_of

RNG = np.random.default_rng(0)
LOST = Candidate("int8", 100, 1.0, None, 30.0, 1.0, drop=0.0, drop_high=0.117, kind="int8")
QUICK = {"max_drop": 1.0, "search_budget": 0}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(conv_net(), tmp_path / "net.onnx")


@pytest.fixture
def pixels(tmp_path: Path) -> str:
    one_colour_each = RNG.integers(0, 160, (40, 1, 1, 3)) + RNG.integers(0, 96, (40, 8, 8, 3))
    np.savez(tmp_path / "u8.npz", x=one_colour_each.astype(np.uint8), y=np.arange(40) % 10)
    return str(tmp_path / "u8.npz")


@pytest.fixture
def floats(tmp_path: Path) -> str:
    x = RNG.uniform(-2, 2, (40, 3, 1, 1)) + RNG.uniform(-0.5, 0.5, (40, 3, 8, 8))
    np.savez(tmp_path / "f.npz", x=x.astype(np.float32), y=np.arange(40) % 10)
    return str(tmp_path / "f.npz")


def pixels_line(report: object) -> str:
    return next(note for note in report.notes if note.startswith("pixels: "))  # type: ignore[attr-defined]


def test_what_the_user_says_travels_with_the_result(model: Path, pixels: str, tmp_path: Path) -> None:
    (tmp_path / "how.json").write_text('{"mean": [0.3], "std": [0.2]}')
    (tmp_path / "names.txt").write_text("\n".join(f"class {i}" for i in range(10)))
    report = quantize(
        model,
        tmp_path / "q.onnx",
        pixels,
        preprocess=str(tmp_path / "how.json"),
        labels=tmp_path / "names.txt",
        **QUICK,
    )  # type: ignore[arg-type]
    identity = read_identity(load_model(tmp_path / "q.onnx"))
    assert identity is not None
    assert identity.labels[:2] == ("class 0", "class 1")
    assert identity.preprocess == Preprocess((8, 8), mean=(0.3,), std=(0.2,)) == report.preprocess
    assert pixels_line(report) == "pixels: RGB, stretched to 8x8, (x/255 - 0.3) / 0.2"
    assert report.warnings == ()


def test_a_guess_is_told_where_it_was_used(model: Path, pixels: str, floats: str, tmp_path: Path) -> None:
    used = quantize(model, tmp_path / "q.onnx", pixels, **QUICK)  # type: ignore[arg-type]
    assert used.warnings[0].startswith(f"{model}: does not say its preprocessing: ImageNet's mean and deviation are")
    assert pixels_line(used).endswith("(assumed)")
    as_is = quantize(model, tmp_path / "f.onnx", floats, **QUICK)  # type: ignore[arg-type]
    assert as_is.warnings == ()
    assert pixels_line(as_is) == "pixels: the arrays given are fed as they are"
    assert as_is.to_dict()["preprocess"] is None
    inside = quantize(model, tmp_path / "u.onnx", floats, input="uint8", **QUICK)  # type: ignore[arg-type]
    assert inside.warnings[0].startswith(f"{model}: does not say its preprocessing")  # it is in the graph now


def test_floats_for_a_model_that_knows_its_pixels(model: Path, floats: str, tmp_path: Path) -> None:
    quantize(model, tmp_path / "q.onnx", floats, preprocess="unit", input_shape="3,8,8", **QUICK)  # type: ignore[arg-type]
    known = load_model(model)
    known.metadata_props.extend(p for p in load_model(tmp_path / "q.onnx").metadata_props if "identity" in p.key)
    report = quantize(save(known, tmp_path / "k.onnx"), tmp_path / "r.onnx", floats, **QUICK)  # type: ignore[arg-type]
    assert pixels_line(report) == "pixels: RGB, stretched to 8x8, x/255; the arrays given are fed as they are"
    assert report.warnings == ()


def test_labels_that_cannot_be_used_are_not_asked_for(model: Path, pixels: str, tmp_path: Path) -> None:
    two = load_model(model)
    two.graph.output.append(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, ["N", 8]))
    place = save(two, tmp_path / "two.onnx")
    report = quantize(place, tmp_path / "q.onnx", pixels, data=pixels, max_drop=0.0, search_budget=0, allow_slower=True)
    words = (
        "whose labels cannot be used (they are classes, and answers of shape (N, 10) and (N, 8) are of no known task)"
    )
    assert words in report.judged_on
    assert "without labels" not in report.judged_on
    assert "labelled --data" not in report.verdict
    assert "larger --max-drop" in report.verdict


def test_the_limit_is_said(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = RNG.standard_normal((40, 3, 8, 8), np.float32) * 3.0 ** (np.arange(40) % 8)[:, None, None, None]
    np.save(tmp_path / "c.npy", images)
    arguments = ["quantize", str(model), "-o", str(tmp_path / "q.onnx"), "--calib", str(tmp_path / "c.npy"),
                 "--search-budget", "0", "--max-drop", "1", "--force"]  # fmt: skip
    assert main([*arguments, "--limit", "2"]) == 0
    out = capsys.readouterr().out
    assert "calibrated on 2 of 40 images (--limit) of c.npy" in out
    assert "more images would move the scales; --limit 40 takes all that there are" in out
    assert main([*arguments, "--json", "--limit", "2"]) == 0
    recipe = json.loads(capsys.readouterr().out)["recipe"]
    assert (recipe["images"], recipe["available"]) == (2, 40)
    assert main(arguments) == 0
    assert "calibrated on 40 images of c.npy" in capsys.readouterr().out
    assert main(["quantize", "--help"]) == 0
    assert "default: 128" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("float16[N, 3, 8, 8]", "export it in float32, and quantize that"),
        ("uint8[N, 4, 8, 8]", "no pictures of 1 or 3 channels: cut the cast to float32 off"),
    ],
)
def test_what_cannot_be_calibrated_says_what_to_do(given: str, advice: str, pixels: str, tmp_path: Path) -> None:
    text = f'<ir_version: 9, opset_import: ["" : 20]> g ({given} x) => (double[N, C, 8, 8] y) '
    made = onnx.parser.parse_model(text + "{ y = Cast <to = 11> (x) }")
    with pytest.raises(BadInput, match=rf"m.onnx: takes x .*{advice}"):
        quantize(save(made, tmp_path / "m.onnx"), tmp_path / "q.onnx", pixels)


# ------------------------------------------------------------------------------------------------ what images can show
@pytest.mark.parametrize(
    ("lost", "budget", "said"),
    [
        (LOST, 0.01, "net: 24 images cannot show a budget of 1.0 %: up to 11.7 % of all may change (95 %); 299 of "
                     "which none changes show it, or labelled --data"),
        (LOST, 0.12, ""),
        (LOST, 0.0, "net: 24 images cannot show a budget of 0 %: up to 11.7 % of all may change (95 %); labelled "
                    "--data may"),
        (replace(LOST, drop_high=None), 0.01, ""),
        (replace(LOST, accuracy=0.9, drop_high=0.0234), 0.01, "net: 24 labelled images leave room for 2.3 points of "
         "top-1 (95 %), and the budget is 1.0 points: more of them would make sure, and --sure asks for it"),
        (replace(LOST, refused="int8 is bad"), 0.01, ""),
    ],
)  # fmt: skip
def test_too_few_images_for_the_budget(lost: Candidate, budget: float, said: str) -> None:
    samples = load_data("random:24", (4,))
    material = Material("x", (4,), samples, samples)
    base = Candidate("float", 400, 2.0)
    decision = Decision("float" if lost.refused else "int8", "", (base, lost), None, 1)
    assert judged_by_few("net", decision, material, Trial(samples, "x", max_drop=budget)) == said
    alike = replace(decision, alike="answers class 2 on all of the 24 images that judge it")
    assert judged_by_few("net", alike, material, Trial(samples, "x", max_drop=budget)) == ""
    assert judged_by_nothing("net", decision) == ""
    assert judged_by_nothing("net", alike).startswith("net: the float graph answers class 2 on all of the 24 images")


def test_a_budget_that_was_to_be_sure_says_where_no_interval_is_known() -> None:
    samples = load_data("random:24", (4,))
    decision = Decision("int8", "", (Candidate("float", 400, 2.0), replace(LOST, drop_high=None)), None, 1)
    trial = Trial(samples, "x", sure=True)
    assert judged_by_few("net", decision, Material("x", (4,), samples, samples), trial) == (
        "net: of what int8 loses here no interval is known: --sure held it as measured"
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(LOST, snr_db=0.93), "net: int8 has 0.9 dB SNR to the float graph, and below 10 dB `check` calls int8 "
                                     "broken; labelled --data decides"),
        (replace(LOST, snr_db=10.0), ""),
        (replace(LOST, snr_db=None), ""),
        (replace(LOST, snr_db=0.93, accuracy=0.9), ""),
        (replace(LOST, snr_db=0.93, refused="int8 is bad"), ""),
    ],
)  # fmt: skip
def test_int8_that_is_far_off_is_told_where_no_label_judges(found: Candidate, said: str) -> None:
    samples = load_data("random:24", (4,))
    decision = Decision("float" if found.refused else "int8", "", (Candidate("float", 400, 2.0), found), None, 1)
    assert far_off("net", decision) == said
    about = Material("x", (4,), samples, samples), Trial(samples, "x", max_drop=1.0)
    result = SimpleNamespace(decision=decision, quantized=SimpleNamespace(calibration=None), aimed=Aimed("", True))
    assert of_verdict("net", result, *about, 10) == ((said,) if said else ())  # type: ignore[arg-type]
    silent = of_verdict("net", result, *about, 10, seeded=True)  # type: ignore[arg-type]
    assert silent == (), "of drawn weights nobody expects an answer"


HALF = """<ir_version: 9, opset_import: ["" : 20]> g (float[N, 3, 8, 8] x) => (float[N, 10] y) {
    h = Cast <to = 10> (x) c = Conv <pads = [1, 1, 1, 1]> (h, w) r = Relu (c) a = GlobalAveragePool (r) f = Flatten (a)
    s = Cast <to = 1> (f) y = Gemm (s, v) }"""


def test_layers_in_float16_are_told_before_the_work(pixels: str, tmp_path: Path) -> None:
    """One of two: the Gemm can be int8 all the same."""
    w, v = RNG.standard_normal((4, 3, 3, 3)).astype(np.float16), RNG.standard_normal((4, 10)).astype(np.float32)
    source, told = save(model_of(HALF, w=w, v=v), tmp_path / "half.onnx"), []
    report = quantize(source, tmp_path / "q.onnx", pixels, search_budget=0, tell=told.append)
    line = f"{source}: 1 of 2 layers compute in float16, where int8 cannot start"
    assert [entry for entry in told if entry.startswith(line)] == [e for e in report.warnings if e.startswith(line)]
    assert any(entry.startswith(line) and "export the network in float32" in entry for entry in told)


def test_a_network_in_float16_says_why_it_stays(pixels: str, tmp_path: Path) -> None:
    w, v = RNG.standard_normal((4, 3, 3, 3)).astype(np.float16), RNG.standard_normal((4, 10)).astype(np.float16)
    text = HALF.replace("s = Cast <to = 1> (f) y = Gemm (s, v)", "g = Gemm (f, v) y = Cast <to = 1> (g)")
    source = save(model_of(text, w=w, v=v), tmp_path / "half.onnx")
    cause = "2 of 2 layers compute in float16, where int8 cannot start: export the network in float32"
    assert cause in quantize(source, tmp_path / "q.onnx", pixels, search_budget=0).verdict
    aimed = quantize(source, tmp_path / "t.onnx", pixels, target="tensorrt")
    assert cause in aimed.verdict


def test_an_image_that_alone_sets_the_range_of_the_input_is_named(model: Path, floats: str, tmp_path: Path) -> None:
    """One value of one image: of the 256 steps the others keep so many as their share of the range."""
    images = np.load(floats)["x"]
    images[5, 0, 0, 0] = -1e30
    others = np.delete(images, 5, axis=0)
    low, high = others.min(), others.max()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = quantize(model, tmp_path / "q.onnx", images, all_int8=True, search_budget=0)
    assert (
        f"calib array[5]: alone sets the range of the input, -1e+30 to {high:.3g}; the {len(others)} others have "
        f"{low:.3g} to {high:.3g}, 0 steps of 256: mend it, or leave it out"
    ) in report.warnings
    assert not any("alone" in line for line in quantize(model, tmp_path / "r.onnx", others, search_budget=0).warnings)
