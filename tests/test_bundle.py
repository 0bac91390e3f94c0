"""A bundle is believed only when everything in it is what its manifest says. Made by zipfile, by hand."""

import hashlib
import io
import json
import os
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from runtimes import bundle as module
from runtimes.base import BadInput
from runtimes.bundle import FORMAT, GOLDEN, MANIFEST, MODEL, MODEL_DATA, golden_bytes, open_bundle, verify
from runtimes.imaging.preprocess import Preprocess

Members = dict[str, bytes]
PREPROCESS = Preprocess((2, 2), 1, None, (0.5,), (0.25,))
X = np.random.default_rng(0).standard_normal((3, 1, 2, 2)).astype(np.float32)
W = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]], np.float32).T
Y = X.reshape(3, 4) @ W


def network(weights: np.ndarray = W) -> onnx.ModelProto:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 1, 2, 2] x) => (float[N, 2] y) <float[4, 2] w> '
        "{ f = Flatten(x) y = MatMul(f, w) }"
    )
    del model.graph.initializer[:]
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return model


def entry(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def manifest_for(members: Members) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "tiny",
        "task": "classification",
        "created_by": "edgecnn 0.1.0",
        "chosen": "float",
        "input": {"name": "x", "shape": ["N", 1, 2, 2], "dtype": "float32"},
        "output": {"name": "y", "shape": ["N", 2], "dtype": "float32"},
        "preprocess": PREPROCESS.to_dict(),
        "labels": ["cat", "dog"],
        "files": {name: entry(data) for name, data in members.items()},
        "golden": {"limit_max_abs": 1e-4, "images": 3},
        "stages": [],
        "candidates": [],
        "race": {},
        "accuracy": None,
        "machine": {},
    }


def good_members() -> Members:
    return {MODEL: network().SerializeToString(), GOLDEN: golden_bytes([X], [Y])}


def pack(path: Path, members: Members, manifest: object = None) -> Path:
    manifest = manifest_for(members) if manifest is None else manifest
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        archive.writestr(MANIFEST, text)
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return pack(tmp_path / "tiny.edge", good_members())


def test_a_good_bundle_tells_what_it_is(good: Path) -> None:
    got = open_bundle(str(good))
    assert (got.path, got.name, got.task, got.chosen, got.labels) == (
        good,
        "tiny",
        "classification",
        "float",
        ("cat", "dog"),
    )
    assert got.preprocess == PREPROCESS
    assert got.manifest["created_by"] == "edgecnn 0.1.0"
    assert got.read(MODEL) == network().SerializeToString()


def test_its_session_computes_the_network(good: Path) -> None:
    session = open_bundle(good).session(threads=1)
    np.testing.assert_allclose(session({"x": X})["y"], Y, rtol=0, atol=1e-5)  # 4 products below 10
    assert session.provider == "cpu"


def test_verify_proves_it_sample_by_sample(good: Path) -> None:
    got = verify(open_bundle(good), threads=np.int64(2))  # type: ignore[arg-type]  # numpy's numbers will do
    assert got.passed
    assert got.threads == 2
    assert [check.limit for check in got.golden] == [1e-4] * 3
    assert all(0 <= check.value < 1e-5 for check in got.golden)
    document = json.loads(json.dumps(got.to_dict(), allow_nan=False))
    assert document["passed"] is True
    assert document["hashes"] is True
    assert document["golden"][0].keys() == {"max_abs", "limit", "images", "shape"}
    assert document["machine"]["threads"] >= 1


def golden_case(tmp_path: Path, outputs: np.ndarray, model: onnx.ModelProto | None = None) -> module.Verification:
    members = {MODEL: (model or network()).SerializeToString(), GOLDEN: golden_bytes([X], [outputs])}
    return verify(open_bundle(pack(tmp_path / "x.edge", members)), threads=1)


def test_one_wrong_golden_sample_fails_alone(tmp_path: Path) -> None:
    wrong = Y.copy()
    wrong[1, 1] += 1e-3
    got = golden_case(tmp_path, wrong)
    assert [check.passed for check in got.golden] == [True, False, True]
    assert got.golden[1].value == pytest.approx(1e-3, abs=1e-5)
    assert not got.passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_never_verify(tmp_path: Path, value: float) -> None:
    spoilt = Y.copy()
    spoilt[0, 0] = value
    both = golden_case(tmp_path, spoilt, network(np.where(W == 1, value, W).astype(np.float32)))
    assert not both.passed
    assert not golden_case(tmp_path, spoilt).passed
    json.dumps(both.to_dict(), allow_nan=False)


def test_another_shape_or_count_of_outputs_never_verifies(tmp_path: Path) -> None:
    assert not golden_case(tmp_path, Y[:, :1]).passed
    members = {MODEL: network().SerializeToString(), GOLDEN: golden_bytes([X], [Y, Y])}
    assert not verify(open_bundle(pack(tmp_path / "two.edge", members)), threads=1).passed


def test_external_data_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    onnx.save(network(), folder / MODEL, save_as_external_data=True, location=MODEL_DATA, size_threshold=0)
    members = {name: (folder / name).read_bytes() for name in (MODEL, MODEL_DATA)}
    path = pack(tmp_path / "big.edge", {**members, GOLDEN: golden_bytes([X], [Y])})
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    assert verify(open_bundle(path), threads=1).passed
    without = pack(tmp_path / "less.edge", {MODEL: members[MODEL], GOLDEN: golden_bytes([X], [Y])})
    monkeypatch.chdir(folder)  # where the data lies, as a trap
    with pytest.raises(BadInput, match=r"less.edge: model.onnx: ONNX Runtime cannot load"):
        open_bundle(without).session(threads=1)


def test_a_limit_of_zero_is_a_limit(tmp_path: Path) -> None:
    members = good_members()
    manifest = {**manifest_for(members), "golden": {"limit_max_abs": 0, "images": 3}}
    got = verify(open_bundle(pack(tmp_path / "x.edge", members, manifest)), threads=1)
    assert [check.passed for check in got.golden] == [check.value == 0 for check in got.golden]


def test_a_network_without_images_has_no_preprocessing(tmp_path: Path) -> None:
    members = good_members()
    path = pack(tmp_path / "x.edge", members, {**manifest_for(members), "preprocess": None, "labels": []})
    assert open_bundle(path).preprocess is None


def test_the_float_model_can_be_opened_beside(tmp_path: Path) -> None:
    members = {**good_members(), "float.onnx": network(2 * W).SerializeToString()}
    session = open_bundle(pack(tmp_path / "x.edge", members)).session(threads=1, member=module.FLOAT_MODEL)
    np.testing.assert_allclose(session({"x": X})["y"], 2 * Y, rtol=0, atol=1e-5)


def test_a_file_changed_after_opening_is_not_believed(good: Path) -> None:
    opened = open_bundle(good)
    members = good_members()
    pack(good, {**members, MODEL: network(3 * W).SerializeToString()}, manifest_for(members))
    with pytest.raises(BadInput, match=r"model.onnx was changed after packing"):
        opened.session(threads=1)
    with pytest.raises(BadInput, match="was changed"):
        verify(opened, threads=1)


@pytest.mark.skipif(not hasattr(os, "pread"), reason="this system does not let an open file be renamed over")
def test_a_file_renamed_over_the_bundle_leaves_the_opened_one_whole(good: Path, tmp_path: Path) -> None:
    """Both are good: the one that was opened is proven and answers, and who opens now gets the other."""
    opened, members = open_bundle(good), good_members()
    other = {**members, MODEL: network(3 * W).SerializeToString()}
    os.replace(pack(tmp_path / "other.edge", other, manifest_for(other)), good)
    assert verify(opened, threads=1).passed
    np.testing.assert_allclose(opened.session(threads=1)({"x": X})["y"], Y, rtol=0, atol=1e-5)
    np.testing.assert_allclose(open_bundle(good).session(threads=1)({"x": X})["y"], 3 * Y, rtol=0, atol=1e-5)
    good.unlink()
    assert verify(opened, threads=1).passed


Tamper = Callable[[Members, dict[str, Any]], object]


def swap(name: str, data: bytes) -> Tamper:
    return lambda members, manifest: members.update({name: data})


def setting(key: str, value: object) -> Tamper:
    return lambda members, manifest: manifest.update({key: value})


def file_entry(**change: object) -> Tamper:
    return lambda members, manifest: manifest["files"][MODEL].update(change)


OTHER = network(-W).SerializeToString()
SIZE = len(network().SerializeToString())
TAMPERED: dict[str, tuple[Tamper, str]] = {
    "model swapped": (swap(MODEL, OTHER), "model.onnx was changed after packing"),
    "model zeroed": (swap(MODEL, bytes(SIZE)), "model.onnx was changed after packing"),
    "model longer": (swap(MODEL, network().SerializeToString() + b"x"), "model.onnx was changed after packing"),
    "model missing": (lambda members, manifest: members.pop(MODEL), "model.onnx is missing from it"),
    "golden missing": (lambda members, manifest: members.pop(GOLDEN), "golden.npz is missing from it"),
    "model nowhere": (lambda members, manifest: (members.pop(MODEL), manifest["files"].pop(MODEL)), "wrong 'files'"),
    "stowaway": (swap("extra.bin", b"x"), "extra.bin is not in its manifest"),
    "escape in the archive": (swap("../evil", b"x"), "not a plain relative path"),
    "escape in the manifest": (
        lambda m, manifest: manifest["files"].update({"../../etc/passwd": entry(b"")}),
        "wrong 'files'",
    ),
    "manifest lists itself": (lambda m, manifest: manifest["files"].update({MANIFEST: entry(b"")}), "wrong 'files'"),
    "hash of zeros": (file_entry(sha256="0" * 64), "was changed after packing"),
    "hash too short": (file_entry(sha256="abc"), "wrong 'files'"),
    "hash a number": (file_entry(sha256=1), "wrong 'files'"),
    "size a lie": (file_entry(bytes=1), "was changed after packing"),
    "size a bool": (file_entry(bytes=True), "wrong 'files'"),
    "files a list": (setting("files", []), "no proper 'files'"),
    "format of the future": (setting("format", 3), "has format 3, this edgecnn reads 1 and 2; use a newer"),
    "format true": (setting("format", True), "has no format number"),
    "format text": (setting("format", "1"), "has no format number"),
    "no labels": (lambda m, manifest: manifest.pop("labels"), "no proper 'labels'"),
    "labels numbers": (setting("labels", [1, 2]), "wrong 'labels'"),
    "no preprocess": (lambda m, manifest: manifest.pop("preprocess"), "no proper 'preprocess'"),
    "preprocess wrong": (setting("preprocess", {"size": [10**9, 1]}), r"manifest\.json: preprocess: size"),
    "of several, without": (setting("format", 2), "no proper 'inputs'"),
    "input nameless": (setting("input", {"dtype": "float32"}), "wrong 'input'"),
    "no limit": (setting("golden", {"images": 3}), "wrong 'golden'"),
    "limit true": (setting("golden", {"limit_max_abs": True, "images": 3}), "wrong 'golden'"),
    "limit negative": (setting("golden", {"limit_max_abs": -1.0, "images": 3}), "wrong 'golden'"),
    "limit infinite": (setting("golden", {"limit_max_abs": float("inf"), "images": 3}), "not JSON"),
    "no samples": (setting("golden", {"limit_max_abs": 1.0, "images": 0}), "wrong 'golden'"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_bundle_is_refused(case: str, tmp_path: Path) -> None:
    tamper, message = TAMPERED[case]
    members = good_members()
    manifest = manifest_for(members)
    tamper(members, manifest)
    path = pack(tmp_path / "x.edge", members, manifest)
    with pytest.raises(BadInput, match=message) as caught:
        open_bundle(path)
    assert len(str(caught.value)) < 300
    assert sorted(os.listdir(tmp_path)) == ["x.edge"], "nothing is unpacked"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (json.dumps(manifest_for(good_members())).encode()[:200], "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[]", "no format number"),
        (b"{}", "no format number"),
        (b"[" * 100_000, "not JSON"),
        (b'{"format": 1, "format": 1}', "a key occurs twice"),
        (b'{"format": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_broken_manifest_is_refused(text: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        open_bundle(pack(tmp_path / "x.edge", good_members(), text))


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.edge").write_text("hello")
    (tmp_path / "empty.edge").write_bytes(b"")
    (tmp_path / "cut.edge").write_bytes(pack(tmp_path / "x.edge", good_members()).read_bytes()[:-30])
    with zipfile.ZipFile(tmp_path / "other.edge", "w") as archive:
        archive.writestr("a", "b")
    cases = {
        "text.edge": "not a whole zip",
        "empty.edge": "is empty",
        "cut.edge": "not a whole zip",
        "none.edge": "no such file",
        "other.edge": r"has no manifest.json",
        "": "is a folder",
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.edge")
        cases["pipe.edge"] = "pipe, socket or device"
    begin = time.monotonic()
    for name, message in cases.items():
        with pytest.raises(BadInput, match=message):
            open_bundle(tmp_path / name)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("arrays", "images"),
    [
        ({"input_0": X, "output_0": Y}, 2),
        ({"input_0": X, "output_0": Y[:2]}, 3),
        ({"input_0": X}, 3),
        ({"output_0": Y}, 3),
        ({"input_0": X, "output_1": Y}, 3),
        ({"x": X, "y": Y}, 3),
        ({"input_0": X, "output_0": Y, "more": Y}, 3),
        ({"input_0": np.float32(1), "output_0": np.float32(1)}, 1),
    ],
)
def test_golden_samples_must_be_those_of_the_manifest(arrays: dict, images: int, tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    members = {MODEL: network().SerializeToString(), GOLDEN: stream.getvalue()}
    manifest = {**manifest_for(members), "golden": {"limit_max_abs": 1.0, "images": images}}
    with pytest.raises(BadInput, match=r"golden.npz does not hold the samples"):
        verify(open_bundle(pack(tmp_path / "x.edge", members, manifest)), threads=1)


def test_golden_samples_are_never_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    stream = io.BytesIO()
    np.savez(stream, input_0=np.array([Evil()], dtype=object), output_0=Y)
    members = {MODEL: network().SerializeToString(), GOLDEN: stream.getvalue()}
    with pytest.raises(BadInput, match="holds object"):
        verify(open_bundle(pack(tmp_path / "x.edge", members)), threads=1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("change", [{"name": "z"}, {"dtype": "float64"}])
def test_the_model_must_have_the_input_of_the_manifest(change: dict, tmp_path: Path) -> None:
    members = good_members()
    manifest = manifest_for(members)
    manifest["input"].update(change)
    with pytest.raises(BadInput, match="another input than the manifest says"):
        open_bundle(pack(tmp_path / "x.edge", members, manifest)).session(threads=1)


def test_golden_bytes_are_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = golden_bytes([X], [Y])
    later = time.localtime(time.time() + 86400)
    monkeypatch.setattr(time, "localtime", lambda *_: later)
    assert golden_bytes([X], [Y]) == first
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("now", b"")
        assert archive.getinfo("now").date_time == later[:6], "a zip written at this time would tell it"


def test_the_format_number_is_what_the_tests_were_written_for() -> None:
    assert FORMAT == 1
