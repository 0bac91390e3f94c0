"""Bundles of several inputs: built, proven on each of them, run from arrays by name, here and on a device."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgecnn import api
from edgecnn.cli import main
from edgecnn.page.usage import snippet
from exporters.pack import pack
from runtimes.base import Array, BadInput
from runtimes.bundle import GOLDEN, MODEL, golden_bytes, open_bundle, verify
from runtimes.device import bench as device_bench
from runtimes.device.main import main as device
from runtimes.proof.manifest import parse_manifest
from runtimes.session import open_session
from small_nets import model, save
from test_device_bundle import changed, entry, on_device
from test_pack import ABOUT
from test_several import arrays as two_arrays
from test_several import net as two_net

NETS = """
import torch
from torch import nn

class Pair(nn.Module):
    input_shapes = {"meta": (4,), "image": (3, 16, 16)}

    def __init__(self, num_classes=6):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Conv2d(16, 16, 3, padding=1)
        self.fc = nn.Linear(20, num_classes)

    def forward(self, image, meta):
        x = self.last(self.norm(self.conv(image)).relu()).relu().mean((2, 3))
        return self.fc(torch.cat([4 * x, meta], 1))
"""


def rows(count: int = 40, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "meta": rng.standard_normal((count, 4), np.float32),
        "image": rng.standard_normal((count, 3, 16, 16), np.float32),
    }


def sample(given: Mapping[str, Array], index: int) -> dict[str, Array]:
    return {name: values[index] for name, values in given.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`nets.py`, its bundle `pair.edge` and `rows.npz`, which calibrated it."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "nets.py").write_text(NETS)
    np.savez(folder / "rows.npz", **rows())
    np.savez(folder / "one.npz", **sample(rows(), 3))
    source, options = f"{folder / 'nets.py'}:Pair", {"search_budget": 0, "allow_slower": True, "max_drop": 1}
    built = api.build(source, folder / "pair.edge", calib=rows(), **options)  # type: ignore[arg-type]
    assert built.chosen != "float"
    assert isinstance(built.stages, tuple)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="module")
def module(place: Path) -> torch.nn.Module:
    from edgecnn.networks.sources import resolve

    return resolve(f"{place / 'nets.py'}:Pair").module


def torch_says(module: torch.nn.Module, given: Mapping[str, Array]) -> Array:
    with torch.no_grad():
        return np.asarray(module(**{name: torch.from_numpy(value) for name, value in given.items()}))


# -------------------------------------------------------------------------------------------------------------- proof
def test_the_manifest_lists_all_inputs_in_the_order_of_the_model(here: Path) -> None:
    bundle = open_bundle("pair.edge")
    assert bundle.manifest["format"] == 2
    assert "input" not in bundle.manifest
    assert [(e["name"], e["shape"]) for e in bundle.inputs] == [("image", ["batch", 3, 16, 16]), ("meta", ["batch", 4])]
    assert [info.name for info in bundle.session().inputs] == ["image", "meta"]
    assert bundle.preprocess is None


def test_golden_samples_are_rows_of_the_data_with_torchs_answers(here: Path, module: torch.nn.Module) -> None:
    (image, meta), (wanted,) = open_bundle("pair.edge").golden()
    assert len(image) == len(meta) == len(wanted) == 4
    data = rows()
    for i in range(4):
        row = next(n for n in range(40) if np.array_equal(data["image"][n], image[i]))
        assert np.array_equal(data["meta"][row], meta[i]), "the same sample for each input"
    np.testing.assert_allclose(torch_says(module, {"image": image, "meta": meta}), wanted, atol=1e-5)


def swapped(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """The second input of one golden sample becomes that of another; its hash is right."""
    held = np.load(io.BytesIO(members[GOLDEN]))
    members[GOLDEN] = golden_bytes([held["input_0"], held["input_1"][::-1]], [held["output_0"]])
    manifest["files"][GOLDEN] = entry(members[GOLDEN])


def lost(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """The second input is missing from the proof."""
    held = np.load(io.BytesIO(members[GOLDEN]))
    members[GOLDEN] = golden_bytes([held["input_0"]], [held["output_0"]])
    manifest["files"][GOLDEN] = entry(members[GOLDEN])


@pytest.mark.parametrize("change", [swapped, lost])
def test_verify_notices_a_wrong_second_input(here: Path, change: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(open_bundle("pair.edge")).passed
    path = changed(here / "pair.edge", change)
    assert not verify(open_bundle(path)).passed
    assert main(["verify", str(path)]) == 1
    assert device(["verify"], str(path)) == 1
    assert main(["verify", "pair.edge", "--json"]) == 0
    assert '"passed": true' in capsys.readouterr().out


def test_verify_notices_a_model_that_does_not_look_at_it(tmp_path: Path) -> None:
    blind = two_net()
    (weight,) = (t for t in blind.graph.initializer if t.name == "u")
    values = np.frombuffer(weight.raw_data, np.float32).reshape(3, 20).copy()
    values[:, 16:] = 0
    given = two_arrays(3)
    want = open_session(two_net())({name: given[name] for name in ("image", "meta")})["y"]
    about = {key: value for key, value in ABOUT.items() if key != "input"}
    about["inputs"] = [{"name": "image", "dtype": "float32", "shape": ["N", 3, 8, 8]},
                       {"name": "meta", "dtype": "float32", "shape": ["N", 4]}]  # fmt: skip
    pack(tmp_path / "two.edge", two_net(), about, [given["image"], given["meta"]], [want], 0.0)

    def swap(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        weight.raw_data = values.tobytes()
        members[MODEL] = blind.SerializeToString()
        manifest["files"][MODEL] = entry(members[MODEL])

    assert verify(open_bundle(tmp_path / "two.edge")).passed
    assert not verify(open_bundle(changed(tmp_path / "two.edge", swap))).passed


def test_a_model_of_another_second_input_is_not_opened(here: Path) -> None:
    def rename(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        manifest["inputs"][1]["name"] = "mate"

    with pytest.raises(BadInput, match=r"model\.onnx has another input than the manifest says; build it again"):
        open_bundle(changed(here / "pair.edge", rename)).session()


INPUTS = [{"name": "a", "dtype": "float32", "shape": ["N", 4]}, {"name": "b", "dtype": "int64", "shape": ["N"]}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"inputs": INPUTS[:1]},
        {"inputs": [INPUTS[0], INPUTS[0]]},
        {"inputs": [INPUTS[0], {**INPUTS[1], "shape": ["N", "H"]}]},
        {"inputs": [INPUTS[0], {**INPUTS[1], "shape": []}]},
        {"inputs": [INPUTS[0], {**INPUTS[1], "dtype": "object"}]},
        {"inputs": [INPUTS[0], {"name": "b"}]},
        {"inputs": [INPUTS[0], 7]},
        {"input": INPUTS[0]},
        {"preprocess": {"size": [8, 8]}},
    ],
)
def test_a_wrong_list_of_inputs_is_refused(wrong: dict[str, Any]) -> None:
    about = {key: value for key, value in ABOUT.items() if key != "input"}
    files = {name: entry(b"") for name in (MODEL, GOLDEN)}
    good = {**about, "format": 2, "inputs": INPUTS, "files": files, "golden": {"limit_max_abs": 1.0, "images": 1}}
    assert parse_manifest(json.dumps(good).encode(), "x.edge")["inputs"] == INPUTS
    with pytest.raises(BadInput, match=r"manifest\.json has a wrong 'inputs'; build it again"):
        parse_manifest(json.dumps(good | wrong).encode(), "x.edge")


# ------------------------------------------------------------------------------------------------------------ answers
def test_answers_are_those_of_the_rows_that_belong_together(here: Path) -> None:
    session, data = open_bundle("pair.edge").session(), rows(8, seed=5)
    want = session(data)["logits"].argmax(1)
    batch = api.run("pair.edge", data)
    assert [one.label for one in batch.classes] == [str(i) for i in want]
    assert [one.input for one in batch.classes] == [f"array 0[{i}]" for i in range(8)]
    singles = api.run("pair.edge", [sample(data, i) for i in range(8)])
    assert [one.top for one in singles.classes] == [one.top for one in batch.classes]
    assert [one.input for one in singles.classes][:2] == ["array 0", "array 1"]
    turned = {**data, "meta": data["meta"][::-1]}
    assert [one.top for one in api.run("pair.edge", turned).classes] != [one.top for one in batch.classes]


def test_files_are_read_as_arrays_are(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "pair.edge", "one.npz", "rows.npz", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert [one["input"] for one in found] == ["one.npz", *(f"rows.npz[{i}]" for i in range(40))]
    assert found[0]["top"] == found[1 + 3]["top"]
    assert len(api.run("pair.edge", "random:2").predictions) == 2


CASES: dict[str, tuple[dict[str, Array], str]] = {
    "lacks": ({"image": rows(2)["image"]}, "holds image, no meta; the model takes image float32 [N, 3, 16, 16], meta"),
    "one lacks": ({"image": rows(1)["image"][0]}, "holds image, no meta; the model takes"),
    "counts": ({"image": rows(2)["image"], "meta": rows(3)["meta"]}, "holds 2 rows of image, 3 rows of meta; give as"),
    "mixed": (
        {"image": rows(2)["image"][0], "meta": rows(2)["meta"]},
        "image is float32 [3, 16, 16]; the model is fed",
    ),
    "pixels": ({"image": np.zeros((2, 3, 16, 16), np.uint8), "meta": rows(2)["meta"]}, "image is uint8 [2, 3, 16, 16]"),
    "nan": ({"image": rows(1)["image"], "meta": np.full((1, 4), np.nan, np.float32)}, "meta: holds NaN or infinity"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_named_and_the_others_are_answered(
    case: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held, words = CASES[case]
    np.savez(tmp_path / "bad.npz", **held)
    for call in (lambda *a: main(["run", "pair.edge", *a]), lambda *a: device(["run", *a], "pair.edge")):
        assert call(str(tmp_path / "bad.npz")) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {tmp_path / 'bad.npz'}")
        assert words in error
        assert call(str(tmp_path / "bad.npz"), "one.npz", "--json") == 2
        out = json.loads(capsys.readouterr().out)
        assert ([one["input"] for one in out["predictions"]], len(out["failed"])) == (["one.npz"], 1)


def test_other_things_than_arrays_by_name_are_refused(here: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows(1)["image"])
    Image.new("RGB", (16, 16)).save(tmp_path / "x.png")
    takes = r"the model takes image float32 .*, meta float32 .*; give an .npz file with an array for each"
    for name in ("x.npy", "x.png"):
        with pytest.raises(BadInput, match=takes):
            api.run("pair.edge", tmp_path / name)
    with pytest.raises(BadInput, match=r"array 0: is one array; the model takes .*; give a dict of arrays by input"):
        api.run("pair.edge", rows(1)["image"])
    with pytest.raises(BadInput, match=r"--input-shape 3,8,8: pair.edge takes image .*; leave it out"):
        api.run("pair.edge", "one.npz", input_shape="3,8,8")


def test_one_input_takes_no_dict(tmp_path: Path) -> None:
    net = model("""<ir_version: 9, opset_import: ["" : 20]> g (float[N, 4] x) => (float[N, 4] y) { y = Neg (x) }""")
    about = {**ABOUT, "input": {"name": "x", "dtype": "float32", "shape": ["N", 4]}}
    pack(tmp_path / "n.edge", net, about, [np.ones((1, 4), np.float32)], [-np.ones((1, 4), np.float32)], 0.0)
    assert open_bundle(tmp_path / "n.edge").manifest["format"] == 1, "as those before"
    with pytest.raises(BadInput, match="array 0: is a dict, and the network has one input; give its array"):
        api.run(tmp_path / "n.edge", {"x": np.ones((1, 4), np.float32)})


MAPS = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 2] gain, float[N, 3, 8, 8] image) => (float[N, 2, 8, 8] y) {
    c = Conv (image, w)
    a = Constant <value_ints = [2, 3]> ()
    k = Unsqueeze (gain, a)
    y = Mul (c, k)
}
"""


def test_a_mask_lies_over_the_input_that_is_a_picture(tmp_path: Path) -> None:
    net = model(MAPS, w=np.random.default_rng(0).standard_normal((2, 3, 1, 1), np.float32))
    rng = np.random.default_rng(1)
    given = {
        "gain": rng.uniform(0.5, 2, (2, 2)).astype(np.float32),
        "image": rng.standard_normal((2, 3, 8, 8), np.float32),
    }
    about = {key: value for key, value in ABOUT.items() if key != "input"} | {"task": "segmentation"}
    about["inputs"] = [{"name": "gain", "dtype": "float32", "shape": ["N", 2]},
                       {"name": "image", "dtype": "float32", "shape": ["N", 3, 8, 8]}]  # fmt: skip
    about["output"] = {"name": "y", "dtype": "float32", "shape": ["N", 2, 8, 8]}
    want = open_session(net)(given)["y"]
    pack(tmp_path / "m.edge", net, about, list(given.values()), [want], 0.0)
    found = api.run(tmp_path / "m.edge", given, save=tmp_path / "out").masks
    assert [one.mask.shape for one in found] == [(8, 8), (8, 8)]
    np.testing.assert_array_equal(found[1].mask, want[1].argmax(0))
    assert len(list((tmp_path / "out").iterdir())) == 4
    page = tmp_path / "page.html"
    api.report(tmp_path / "m.edge", page)
    assert page.read_text("utf-8").count("<img") >= 6, "input and two masks of each sample"


# ------------------------------------------------------------------------------------------------------- other commands
def test_commands_take_the_bundle_beside_the_network(here: Path) -> None:
    source = "nets.py:Pair"
    plain = api.check(source, "pair.edge")
    assert plain.passed
    assert "golden inputs of pair.edge" in plain.verdict
    other = api.check(source, "pair.edge", data=rows(5, seed=9), snr_db=15)
    assert other.passed, "inputs that change places leave 0 dB"
    assert other.next_command.endswith("--data ARRAYS.npz --snr-db 15")
    assert api.diff(source, "pair.edge", data="rows.npz").first is None
    labelled = {**rows(24), "y": np.arange(24) % 6}
    scored = api.evaluate(source, "pair.edge", data=labelled)
    assert scored.difference is not None
    assert [info.name for info in api.inspect("pair.edge").inputs] == ["image", "meta"]


def test_a_file_becomes_a_bundle_too(tmp_path: Path) -> None:
    save(two_net(), tmp_path / "two.onnx")
    path = tmp_path / "two.edge"
    report = api.quantize(tmp_path / "two.onnx", path, two_arrays(), max_drop=1, allow_slower=True, search_budget=0)
    assert report.bundled
    bundle = open_bundle(path)
    assert (bundle.original, [e["name"] for e in bundle.inputs]) == ("float model", ["image", "meta"])
    (image, meta), (wanted,) = bundle.golden()
    np.testing.assert_allclose(open_session(two_net())({"image": image, "meta": meta})["y"], wanted, rtol=1e-4)
    assert api.verify(path).failure is None


def test_two_pictures_called_x_and_y(tmp_path: Path) -> None:
    """`y` is an input here, and no labels."""
    net = model(
        """<ir_version: 9, opset_import: ["" : 20]>
        g (float[N, 3, 8, 8] x, float[N, 3, 8, 8] y) => (float[N, 4, 8, 8] z) { d = Sub (x, y) z = Conv (d, w) }""",
        w=np.random.default_rng(0).standard_normal((4, 3, 1, 1), np.float32),
    )
    save(net, tmp_path / "xy.onnx")
    draw = np.random.default_rng(1).standard_normal
    given = {"x": draw((9, 3, 8, 8), np.float32), "y": draw((9, 3, 8, 8), np.float32)}
    np.savez(tmp_path / "xy.npz", **given)
    for name, calib in (("memory", given), ("file", str(tmp_path / "xy.npz"))):
        path = tmp_path / f"{name}.edge"
        api.quantize(tmp_path / "xy.onnx", path, calib, max_drop=1, search_budget=0)
        assert len(api.run(path, given).numbers) == 9


def test_the_page_tells_all_inputs_and_its_lines_run(here: Path, tmp_path: Path) -> None:
    api.report("pair.edge", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "image: float32 [batch, 3, 16, 16]" in page
    assert "meta: float32 [batch, 4]" in page
    assert "inputs.npz" in page
    facts: Any = SimpleNamespace(bundle=open_bundle("pair.edge"), file="pair.edge", provider="cpu")
    done = subprocess.run([sys.executable, "-c", snippet(facts)], capture_output=True, text=True, timeout=60)
    nothing = {"image": np.zeros((3, 16, 16), np.float32), "meta": np.zeros(4, np.float32)}
    assert (done.stdout.strip(), done.stderr) == (api.run("pair.edge", nothing, top=5).classes[0].words, "")


# ------------------------------------------------------------------------------------------------------------- device
def test_the_device_answers_as_edgecnn_does(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "pair.edge", "rows.npz", "one.npz", "--json"]) == 0
    wanted = json.loads(capsys.readouterr().out)
    done = on_device("pair.edge", "run", "rows.npz", "one.npz", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == wanted
    done = on_device("pair.edge", "verify", "--json")
    assert json.loads(done.stdout)["passed"] is True
    about = on_device("pair.edge").stdout
    assert "input     image float32 [batch, 3, 16, 16], arrays that are ready" in about
    assert "input     meta float32 [batch, 4], arrays that are ready" in about
    assert "run ARRAYS.npz" in about


def test_the_device_reads_standard_input(here: Path) -> None:
    with open("one.npz", "rb") as stream:
        done = on_device("pair.edge", "run", "-", "--json", stdin=stream)
    assert (
        json.loads(done.stdout)["predictions"][0]["top"]
        == api.run("pair.edge", "one.npz").to_dict()["predictions"][0]["top"]
    )
    np.save("image.npy", rows(1)["image"])
    with open("image.npy", "rb") as stream:
        done = on_device("pair.edge", "run", "-", stdin=stream)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: -: the model takes image float32 [N, 3, 16, 16], meta float32 [N, 4]; give an"
    )


def test_the_device_measures_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_bench, "PROBES", 1)
    assert device(["bench", "--iterations", "4", "--threads", "1", "--batch", "2", "--json"], "pair.edge") == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert row["inputs"] == {"image": [2, 3, 16, 16], "meta": [2, 4]}


IGNORANT = """
import torch
from torch import nn
from nets import Pair

class Deaf(Pair):
    def forward(self, image, meta):
        return super().forward(image, torch.zeros_like(meta))

class Blind(nn.Module):
    input_shape = (4,)

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.randn(1, 3))

    def forward(self, x):
        return self.scores.expand(x.shape[0], 3) * 2
"""


def test_an_input_that_forward_ignores_is_told(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ignorant.py").write_text(IGNORANT)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.chdir(tmp_path)
    assert main(["export", "ignorant.py:Deaf", "-o", "deaf.onnx", "--json"]) == 0
    out, err = capsys.readouterr()
    line = (
        "ignorant.py:Deaf: forward makes nothing of meta: what is fed there changes no answer; "
        "leave it out of forward, or mend it"
    )
    assert json.loads(out)["warnings"] == [line]
    assert err.count(f"warning: {line}\n") == 1
    heard: list[str] = []
    built = api.build("ignorant.py:Deaf", "deaf.edge", calib=rows(), search_budget=0, max_drop=1, tell=heard.append)
    assert line in heard
    assert built.warnings.count(line) == 1
    blind = api.export("ignorant.py:Blind", "blind.onnx")
    assert any("nothing of its input, so that all answers are the same" in told for told in blind.warnings)
    assert not api.export(f"{place / 'nets.py'}:Pair", "pair.onnx").warnings
