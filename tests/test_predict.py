"""`edgecnn run` and `edgecnn verify`: right answers from pictures and arrays, one line for what is neither."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

import cuda_stand_in
from edgecnn.cli import main
from edgecnn.prediction.predict import run, verify
from exporters.pack import pack
from runtimes.base import BadInput, CheckFailed
from runtimes.bundle import open_bundle
from runtimes.imaging.pictures import colour_of
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof.answers import BoxesPrediction, MaskPrediction, Prediction, best, probabilities
from runtimes.session import open_session
from small_nets import conv_net, model, save

LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PREPROCESS = Preprocess(size=(8, 8), channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
ABOUT = {
    "name": "made", "task": "classification", "labels": LABELS, "preprocess": PREPROCESS.to_dict(),
    "created_by": "edgecnn 0", "chosen": "float",
    "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8]},
    "output": {"name": "y", "dtype": "float32", "shape": ["N", 10]},
}  # fmt: skip
NET = conv_net(channels=8, size=8)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    path = tmp_path / "net.edge"
    pack(path, NET, ABOUT, [images], [open_session(NET)({"x": images})["y"]], 0.0)
    return path


def picture(path: Path, seed: int = 1, side: int = 20) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def expected(image: np.ndarray) -> tuple[list[str], np.ndarray]:
    """(labels from the best on, probabilities) by torch's softmax of the session's own outputs."""
    scores = open_session(NET)({"x": image[None]})["y"][0]
    shares = torch.softmax(torch.from_numpy(scores).double(), 0).numpy()
    order = np.argsort(-shares)
    return [LABELS[i] for i in order], shares[order]


def test_a_picture_goes_through_the_bundles_preprocessing(bundle: Path, tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png")
    (answer,) = run(bundle, tmp_path / "a.png", top=3).predictions
    labels, shares = expected(PREPROCESS(pixels))
    assert [a.label for a in answer.top] == labels[:3]
    assert [a.score for a in answer.top] == pytest.approx(shares[:3], abs=1e-6)  # float32 outputs
    assert (answer.label, answer.score, answer.input) == (labels[0], answer.top[0].score, str(tmp_path / "a.png"))


def test_arrays_of_all_kinds_give_the_same_answer(bundle: Path, tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png")
    ready = PREPROCESS(pixels)
    arrays = {"one": ready, "many": np.stack([ready, ready]), "double": ready.astype(np.float64),
              "pixels": pixels, "pictures": np.stack([pixels, pixels])}  # fmt: skip
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "x.npz", x=arrays["many"])
    files = [*(tmp_path / f"{name}.npy" for name in arrays), tmp_path / "x.npz", tmp_path / "a.png"]
    found = run(bundle, files).predictions
    assert len(found) == 1 + 2 + 1 + 1 + 2 + 2 + 1
    assert len({p.label for p in found}) == 1
    assert [p.score for p in found] == pytest.approx([found[0].score] * len(found), abs=1e-6)
    assert found[0].input == str(tmp_path / "one.npy")
    assert found[1].input == f"{tmp_path / 'many.npy'}[0]"


def test_a_folder_is_all_images_below_it(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        picture(folder / f"{i}.png", seed=i)
    assert [Path(p.input).name for p in run(bundle, folder).predictions] == ["0.png", "1.png", "2.png"]
    (folder / "phone.HEIC").write_bytes(b"....ftypheic")
    found = run(bundle, folder)
    assert len(found.predictions) == 3
    assert [one.error for one in found.unread] == [
        f"{folder / 'phone.HEIC'}: pictures of .HEIC are not read; convert it to JPEG or PNG"
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"no picture", "is not an image"),
        ("a.npy", b"\x93NUMPY junk", "a.npy"),
        ("none.npy", None, "no such file"),
        ("none.jpg", None, "no such file"),
        ("a.txt", b"hello", "unknown kind of data"),
    ],
)
def test_what_is_no_input(name: str, content: bytes | None, message: str, bundle: Path, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        run(bundle, tmp_path / name)


def test_arrays_of_the_wrong_shape_and_with_nan(bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((2, 3, 9, 9), np.float32))
    with pytest.raises(BadInput, match=r"wrong.npy: is float32 \[2, 3, 9, 9\]; this network needs"):
        run(bundle, tmp_path / "wrong.npy")
    np.save(tmp_path / "nan.npy", np.full((1, 3, 8, 8), np.nan, np.float32))
    with pytest.raises(BadInput, match="NaN"):
        run(bundle, tmp_path / "nan.npy")


def test_an_answer_that_is_no_number_names_its_image(bundle: Path) -> None:
    fine, beyond = np.zeros((3, 8, 8), np.float32), np.full((3, 8, 8), 3e38, np.float32)  # sums leave float32
    with pytest.raises(BadInput, match=r"^array 1: is answered with NaN or infinity; "):
        run(bundle, [fine, beyond])


def test_a_picture_for_a_network_that_takes_none(tmp_path: Path) -> None:
    images = np.zeros((1, 3, 8, 8), np.float32)
    path = tmp_path / "plain.edge"
    pack(path, NET, {**ABOUT, "preprocess": None}, [images], [open_session(NET)({"x": images})["y"]], 0.0)
    picture(tmp_path / "a.png")
    with pytest.raises(
        BadInput, match=r"a\.png: is a picture; .*plain\.edge takes floats, \[N, 3, 8, 8\], and does not say how"
    ):
        run(path, tmp_path / "a.png")


def test_softmax_is_torchs_and_probabilities_stay() -> None:
    scores = np.array([1e4, -1e4, 9999.0, 3.0], np.float32)
    want = torch.softmax(torch.from_numpy(scores).double(), 0).numpy()
    np.testing.assert_allclose(probabilities(scores), want, rtol=1e-12)  # float64 round-off
    shares = np.array([0.25, 0.75, 0.0], np.float32)
    np.testing.assert_array_equal(probabilities(shares), shares)
    with pytest.raises(BadInput, match=r"^a\.png: is answered with NaN or infinity; "):
        best(np.array([1.0, np.nan]), LABELS, 1, "a.png")


def test_ties_keep_the_order_and_classes_without_a_label_are_numbers() -> None:
    assert [a.label for a in best(np.zeros(3), ["a"], 9)] == ["a", "1", "2"]


def test_verify_proves_a_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = verify(bundle)
    assert report.failure is None
    assert "proven on cpu" in report.verdict
    assert main(["verify", str(bundle), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is document["hashes"] is True
    assert [set(g) for g in document["golden"]] == [{"max_abs", "limit", "images", "shape"}] * 3
    assert document["machine"]["threads"] >= 1


def rewritten(bundle: Path, member: str, change: bytes) -> Path:
    """A copy of `bundle` with the content of `member` replaced; the manifest's hashes stay as they were."""
    copy = bundle.with_name("copy.edge")
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(copy, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change if info.filename == member else old.read(info.filename))
    return copy


def test_outputs_beyond_the_limit_are_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    path = tmp_path / "net.edge"
    pack(path, NET, ABOUT, [images], [open_session(NET)({"x": images})["y"] + np.float32(0.01)], 0.01)
    assert verify(path).failure is None
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    manifest["golden"]["limit_max_abs"] = 1e-3
    copy = rewritten(path, "manifest.json", json.dumps(manifest).encode())
    assert main(["verify", str(copy)]) == 1
    out, err = capsys.readouterr()
    assert "NOT proven" in out
    assert err.startswith(f"error: {copy}: golden outputs differ by 0.01")


def test_a_changed_member_is_bad_input(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(bundle) as archive:
        data = bytearray(archive.read("model.onnx"))
    data[len(data) // 2] ^= 1
    assert main(["run", str(rewritten(bundle, "model.onnx", bytes(data))), "x.npy"]) == 2
    assert "model.onnx was changed after packing" in capsys.readouterr().err


def test_a_changed_member_fails_the_check_that_was_asked_for(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(bundle) as archive:
        data = bytearray(archive.read("model.onnx"))
    data[len(data) // 2] ^= 1
    for change in (bytes(data), bytes(data[:-1])):  # another hash, another length
        copy = rewritten(bundle, "model.onnx", change)
        assert main(["verify", str(copy)]) == 1
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"error: {copy}: model.onnx was changed after packing; build or copy it again\n")
        assert main(["verify", str(copy), "--json"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert document.items() >= {"bundle": str(copy), "passed": False, "hashes": False, "golden": []}.items()
        assert document["error"] == err.removeprefix("error: ").strip()


def test_every_flipped_byte_fails_the_check(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In members, in their headers and in the zip's directory: a bundle that is not right is no bad usage."""
    whole, copy = bundle.read_bytes(), bundle.with_name("flipped.edge")
    manifest = len(b"PK\3\4") + 26 + len("manifest.json")
    with zipfile.ZipFile(bundle) as archive:
        directory = archive.start_dir
    for place in (manifest + 5, whole.index(b"model.onnx", manifest) + 99, *range(directory, directory + 46, 5)):
        copy.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        code = main(["verify", str(copy), "--json"])
        out, err = capsys.readouterr()
        if code == 0:  # what the format leaves to the writer: its version, a date
            assert json.loads(out)["passed"] is True
            continue
        assert (code, err.count("\n"), json.loads(out)["passed"]) == (1, 1, False), (place, err)
        assert place >= directory or re.search(r": (manifest.json|model.onnx) is damaged \(", err)


def test_a_cut_bundle_fails_and_what_is_none_is_bad_input(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = bundle.with_name("cut.edge")
    copy.write_bytes(bundle.read_bytes()[:-30])
    assert main(["verify", str(copy)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {copy}: is not a whole zip file (")
    copy.write_bytes(b"PK\3\4" + bytes(100))
    assert main(["verify", str(copy)]) == 2
    with zipfile.ZipFile(copy, "w") as archive:
        archive.writestr("a", "b")
    assert main(["verify", str(copy)]) == 2
    with zipfile.ZipFile(bundle) as before, zipfile.ZipFile(copy, "w") as archive:
        for info in before.infolist()[:-1]:
            archive.writestr(info, before.read(info))
    capsys.readouterr()
    assert main(["verify", str(copy)]) == 1
    assert " is missing from it; " in capsys.readouterr().err


def repacked(bundle: Path, **changes: object) -> Path:
    """A copy of `bundle` with entries of its manifest replaced."""
    with zipfile.ZipFile(bundle) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    return rewritten(bundle, "manifest.json", json.dumps({**manifest, **changes}).encode())


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"task": "segmentation"}, "[N, 10], not with a mask"),
        ({"task": "segmentation", "output": {"shape": ["N", 2, 8, 8]}}, "[1, 10], not with a mask"),
        ({"task": "detection"}, "[N, 10], not with boxes"),
        ({"task": "detection", "output": {"shape": ["M", 4]}}, "[1, 10], not with boxes"),
        ({"output": {"shape": ["N", 2, 8, 8]}}, "[N, 2, 8, 8], not with classes"),
        ({"task": "multi-label", "output": {"shape": ["N", 2, 8, 8]}}, "[N, 2, 8, 8], not with labels"),
    ],
)
def test_outputs_that_are_not_what_the_task_says(
    changes: dict[str, object], shape: str, bundle: Path, tmp_path: Path
) -> None:
    copy = repacked(bundle, **changes)
    with pytest.raises(BadInput) as caught:
        run(copy, np.zeros((3, 8, 8), np.float32))
    assert str(caught.value) == (f"{copy}: answers with {shape}; use runtimes.bundle.open_bundle(...).session()")


def test_a_map_is_no_list_of_classes_whatever_the_manifest_says(tmp_path: Path) -> None:
    net = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Relu (x) }'
    )
    images = np.ones((1, 3, 8, 8), np.float32)
    pack(tmp_path / "map.edge", net, ABOUT, [images], [images], 0.0)
    with pytest.raises(BadInput, match=r"answers with \[1, 3, 8, 8\], not with classes"):
        run(tmp_path / "map.edge", images)
    with pytest.raises(BadInput, match="no proper 'output'"):
        run(repacked(tmp_path / "map.edge", output={}), images)


def test_arrays_in_memory_are_taken_as_their_files_are(bundle: Path, tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png")
    ready = PREPROCESS(pixels)
    (wanted,) = run(bundle, tmp_path / "a.png").predictions
    found = run(bundle, [pixels, ready, np.stack([ready, ready]), tmp_path / "a.png"]).predictions
    assert [p.input for p in found] == ["array 0", "array 1", "array 2[0]", "array 2[1]", str(tmp_path / "a.png")]
    assert [p.top for p in found] == [wanted.top] * 5
    assert [p.input for p in run(bundle, pixels).predictions] == ["array 0"]
    with pytest.raises(BadInput, match=r"array 0: is float32 \[2, 3, 9, 9\]; this network needs"):
        run(bundle, np.zeros((2, 3, 9, 9), np.float32))


def test_a_model_that_is_not_packed_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no bundle; make one with `edgecnn build"):
        run(save(NET, tmp_path / "net.onnx"), "x.npy")


def test_run_shows_labels_and_imports_no_torch(bundle: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    script = (
        "import sys; from edgecnn.cli import main; code = main(sys.argv[1:]); "
        "print(code, 'torch' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, "run", str(bundle), str(tmp_path / "a.png"), "--top", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parent.parent)
    assert done.stderr.strip() == "0 False"
    assert sum(label in done.stdout for label in LABELS) >= 2
    assert "1 image through" in done.stdout


# ------------------------------------------------------------------------------------------------------ masks and boxes
def seg_bundle(path: Path, preprocess: Preprocess = PREPROCESS) -> Path:
    """Three classes, whose logits are the image's own channels: the brightest colour of each pixel."""
    net = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Identity (x) }'
    )
    images = np.ones((1, 3, 8, 8), np.float32)
    output = {"name": "y", "dtype": "float32", "shape": ["N", 3, 8, 8]}
    about = {**ABOUT, "task": "segmentation", "labels": ["red", "green"], "output": output}
    pack(path, net, {**about, "preprocess": preprocess.to_dict()}, [images], [images], 0.0)
    return path


def det_bundle(path: Path, preprocess: Preprocess = PREPROCESS) -> Path:
    """Three boxes, whatever the image: the left half, the lower half of less score, and one of almost none."""
    net = model(
        """<ir_version: 9, opset_import: ["" : 20]>
        g (float[N, 3, 8, 8] x) => (float[M, 4] boxes, float[M] scores, int64[M] labels, int64[M] image) {
           boxes = Constant <value = float[3, 4] {0.0, 4.0, 8.0, 8.0, 0.0, 0.0, 4.0, 8.0, 0.0, 0.0, 1.0, 1.0}> ()
           scores = Constant <value = float[3] {0.5, 0.75, 0.1}> ()
           labels = Constant <value = int64[3] {1, 0, 0}> ()
           image = Constant <value = int64[3] {0, 0, 0}> ()
        }"""
    )
    images = np.ones((1, 3, 8, 8), np.float32)
    answers = open_session(net)({"x": images})
    output = {"name": "boxes", "dtype": "float32", "shape": ["M", 4]}
    about = {**ABOUT, "task": "detection", "labels": ["cat", "dog"], "output": output}
    tables = [value[None] for value in answers.values()]
    pack(path, net, {**about, "preprocess": preprocess.to_dict()}, [images], tables, 0.0)
    return path


def quarters(path: Path) -> np.ndarray:
    """40 pixels high, 80 wide: red, green on the right, blue in the lower half."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:20, :40, 0], pixels[:20, 40:, 1], pixels[20:, :, 2] = 200, 200, 200
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_mask_is_as_large_as_the_picture(tmp_path: Path) -> None:
    pixels = quarters(tmp_path / "a.png")
    (found,) = run(seg_bundle(tmp_path / "s.edge"), tmp_path / "a.png").predictions
    assert np.array_equal(found.mask, pixels.argmax(2))
    assert [(r.label, r.pixels, r.share) for r in found.regions] == [("2", 1600, 0.5), ("red", 800, 0.25),
                                                                     ("green", 800, 0.25)]  # fmt: skip
    document = found.to_dict()
    assert document["mask"]["size"] == [40, 80]
    assert document["mask"]["classes"][0] == {"label": "2", "pixels": 1600, "share": 0.5}


def test_what_the_crop_did_not_see_has_no_class(tmp_path: Path) -> None:
    quarters(tmp_path / "a.png")
    bundle = seg_bundle(tmp_path / "s.edge", Preprocess((8, 8), resize=8, mean=(0.5,) * 3, std=(0.5,) * 3))
    (found,) = run(bundle, tmp_path / "a.png").predictions
    assert (found.mask[:, :20] == 255).all()
    assert (found.mask[:, 60:] == 255).all()
    assert sum(r.pixels for r in found.regions) == 1600


def test_boxes_are_in_pixels_of_the_picture_the_surest_first(tmp_path: Path) -> None:
    quarters(tmp_path / "a.png")
    (found,) = run(det_bundle(tmp_path / "d.edge"), tmp_path / "a.png").predictions
    assert found.to_dict()["boxes"] == [
        {"label": "cat", "score": 0.75, "box": (0.0, 0.0, 40.0, 40.0)},
        {"label": "dog", "score": 0.5, "box": (0.0, 20.0, 80.0, 40.0)},
    ]
    for limit, labels in ((0.6, ["cat"]), (0.75, ["cat"]), (0.9, []), (0.05, ["cat", "dog", "cat"])):
        (found,) = run(tmp_path / "d.edge", tmp_path / "a.png", min_score=limit).predictions
        assert [box.label for box in found.boxes] == labels


def test_arrays_and_folders_answer_in_their_own_pixels(tmp_path: Path) -> None:
    pixels = quarters(tmp_path / "a.png")
    bundle = det_bundle(tmp_path / "d.edge")
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "photos" / "a.png")
    found = run(bundle, [pixels, pixels[None], tmp_path / "photos", PREPROCESS(pixels)]).predictions
    assert [p.boxes[0].box for p in found] == [(0.0, 0.0, 40.0, 40.0)] * 3 + [(0.0, 0.0, 4.0, 8.0)]


def test_masks_and_boxes_are_verified(tmp_path: Path) -> None:
    for bundle in (seg_bundle(tmp_path / "s.edge"), det_bundle(tmp_path / "d.edge")):
        assert verify(bundle).failure is None


def test_pictures_are_saved_whole_and_never_over_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = quarters(tmp_path / "a.png")
    out = tmp_path / "out"
    bundle = str(seg_bundle(tmp_path / "s.edge"))
    assert main(["run", bundle, str(tmp_path / "a.png"), "--save", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["predictions"][0]["files"] == [str(out / "a.mask.png"), str(out / "a.overlay.png")]
    mask = Image.open(out / "a.mask.png")
    assert mask.mode == "P"
    assert np.array_equal(np.asarray(mask), pixels.argmax(2))
    assert mask.getpalette()[3:6] == [128, 0, 0]
    shown = np.asarray(Image.open(out / "a.overlay.png"))
    assert shown[0, 0].tolist() == [200, 0, 0]  # class 0 is the ground: left as it is
    assert shown[0, 79].tolist() == [64, 100, 0]  # half green, half VOC's dark red
    assert main(["run", bundle, str(tmp_path / "a.png"), "--save", str(out)]) == 2
    assert "a.mask.png: exists already; give another name or --force" in capsys.readouterr().err
    assert main(["run", bundle, str(tmp_path / "a.png"), "--save", str(out), "--force"]) == 0
    assert "saved " in capsys.readouterr().out


def test_boxes_are_drawn_in_the_colour_of_their_class(tmp_path: Path) -> None:
    quarters(tmp_path / "a.png")
    run(det_bundle(tmp_path / "d.edge"), tmp_path / "a.png", save=tmp_path / "out")
    shown = np.asarray(Image.open(tmp_path / "out" / "a.overlay.png"))
    assert shown.shape == (40, 80, 3)
    labels = open_bundle(tmp_path / "d.edge").labels
    assert tuple(shown[30, 39]) == colour_of("cat", labels)  # its right edge
    assert tuple(shown[39, 60]) == colour_of("dog", labels)  # its lower edge


def test_classes_are_no_pictures(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="answers with classes, which are no pictures; leave it out"):
        run(bundle, np.zeros((3, 8, 8), np.float32), save=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_masks_and_boxes_need_no_torch(tmp_path: Path) -> None:
    quarters(tmp_path / "a.png")
    script = (
        "import sys; from edgecnn.cli import main; code = main(sys.argv[1:]); "
        "print(code, 'torch' in sys.modules, file=sys.stderr)"
    )
    for path in (seg_bundle(tmp_path / "s.edge"), det_bundle(tmp_path / "d.edge")):
        picture_of = [str(path), str(tmp_path / "a.png"), "--save", str(tmp_path / path.stem)]
        command = [sys.executable, "-c", script, "run", *picture_of]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parent.parent)
        assert done.stderr.strip() == "0 False"


def test_require_all_refuses_a_bundle_that_leaves_the_provider(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in for the GPU really runs on the CPU."""
    picture(tmp_path / "a.png")
    assert run(bundle, [tmp_path / "a.png"], require_all=True).provider == "cpu"
    cuda_stand_in.install(monkeypatch)
    assert run(bundle, [tmp_path / "a.png"], provider="cuda:use_tf32=1").provider == "cuda:use_tf32=1"
    with pytest.raises(CheckFailed, match="nodes ran on cpu, not on cuda"):
        run(bundle, [tmp_path / "a.png"], provider="cuda", require_all=True)


@pytest.mark.parametrize(
    ("scale", "shift", "odd"),
    [(2.0, -1.0, False), (255.0, 0.0, True), (16.0, 1.5, True), (16.0, 0.5, False), (-40.0, 0.0, True)],
)
def test_floats_that_no_pixel_becomes_are_told(bundle: Path, scale: float, shift: float, odd: bool) -> None:
    """Pixels become -1 to 1 here: 8 times that width on either side is -17 to 17."""
    ramp = np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 8, 8) * scale + shift
    found = run(bundle, np.stack([ramp, ramp])).warnings
    assert len(found) == odd
    if scale == 255.0:
        assert found[0].startswith(
            "array 0[0]: holds 0 to 255, pixels become -1 to 1 in this bundle; of pictures give uint8 pixels"
        )


def test_pixels_and_noise_are_not_doubted(bundle: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    noise = np.random.default_rng(0).standard_normal((200, 3, 8, 8)).astype(np.float32)
    assert run(bundle, [tmp_path / "a.png", np.full((8, 8, 3), 255, np.uint8), noise]).warnings == ()


def test_the_warning_is_on_stderr_and_in_the_document(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "f.npy", np.full((3, 8, 8), 200.0, np.float32))
    assert main(["run", str(bundle), str(tmp_path / "f.npy"), "--json"]) == 0
    out, err = capsys.readouterr()
    (line,) = json.loads(out)["warnings"]
    assert err == f"warning: {line}\n"


def test_a_frame_with_its_channels_first_is_answered_and_told_once(bundle: Path, tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)
    report = run(bundle, [frame, frame])
    assert [one.top for one in report.classes] == [run(bundle, plane).classes[0].top for plane in [*frame, *frame]]
    assert report.warnings == ("array 0: taken as 3 grey pictures of 20 x 30; a colour picture is (H, W, 3)",)
    assert run(bundle, frame[:2]).warnings == ()


def test_grey_pictures_with_their_axis_are_one_picture_each_and_drawn(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    path = seg_bundle(tmp_path / "net.edge")
    (flat,) = run(path, grey).masks
    (found,) = run(path, grey[:, :, None], save=tmp_path / "drawn").masks
    assert np.array_equal(found.mask, flat.mask)
    assert found.mask.shape == (20, 30)
    with Image.open(found.files[1]) as drawn:
        assert drawn.size == (30, 20)
    with pytest.raises(BadInput, match=r"^array 0: is uint8 \[20, 30, 2\], and no picture is 2 wide"):
        run(path, np.stack([grey, grey], 2))


# --------------------------------------------------------------------------------------------------- some that are bad
def spoiled(folder: Path) -> Path:
    """Five pictures, of which 1 and 3 are damaged."""
    for i in range(5):
        picture(folder / f"{i}.png", seed=i)
    (folder / "1.png").write_bytes(b"no picture")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
    return folder


def test_a_damaged_picture_does_not_cost_the_answers_of_the_others(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    folder = spoiled(tmp_path / "photos")
    alone = {i: run(bundle, folder / f"{i}.png").predictions[0].score for i in (0, 2, 4)}
    assert main(["run", str(bundle), str(folder), "--json"]) == 2
    said = capsys.readouterr()
    document, lines = json.loads(said.out), said.err.splitlines()
    assert {p["input"]: p["score"] for p in document["predictions"]} == {
        str(folder / f"{i}.png"): score for i, score in alone.items()
    }
    assert [one["input"] for one in document["failed"]] == [str(folder / "1.png"), str(folder / "3.png")]
    assert lines == [f"error: {one['error']}" for one in document["failed"]]
    assert all(re.match(r"error: .*/photos/[13].png: is not an image or is damaged", line) for line in lines)
    assert main(["run", str(bundle), *(str(folder / f"{i}.png") for i in (0, 1))]) == 2
    said = capsys.readouterr()
    assert "1 image through" in said.out
    assert "; 1 could not be read." in said.out
    assert said.err.count("\n") == 1


def test_the_only_picture_is_bad_input_and_nothing_is_printed(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    folder = spoiled(tmp_path / "photos")
    for names in (["1.png"], ["1.png", "3.png"]):
        assert main(["run", str(bundle), *(str(folder / name) for name in names), "--json"]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert "1.png: is not an image or is damaged" in said.err
        assert ("(and 1 more that cannot be read)" in said.err) == (len(names) == 2)


STRANGE = ("zer0", "notes.txt", "none.jpg", "wrong.npy", "empty")
"""No ending, an unknown one, not there, another shape, a folder without pictures."""


@pytest.mark.parametrize("name", STRANGE)
def test_whatever_cannot_be_read_is_named_and_the_others_are_answered(
    name: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zer0").write_bytes(b"\0" * 9)
    (tmp_path / "notes.txt").write_text("hello")
    np.save(tmp_path / "wrong.npy", np.zeros(3, np.float32))
    (tmp_path / "empty").mkdir()
    good = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in good:
        picture(path)
    inputs = [str(good[0]), str(tmp_path / name), str(good[1])]
    assert main(["run", str(bundle), *inputs, "--json"]) == 2
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert [p["input"] for p in document["predictions"]] == [inputs[0], inputs[2]]
    assert [p["input"] for p in document["failed"]] == [inputs[1]]
    assert said.err.splitlines() == [f"error: {document['failed'][0]['error']}"]
    assert document["failed"][0]["error"].startswith(f"{inputs[1]}: ")
    assert run(bundle, inputs).failures[0].args == (document["failed"][0]["error"],)


def test_what_subfolders_stand_for_is_not_asked(bundle: Path, tmp_path: Path) -> None:
    """`evaluate` refuses a picture beside class folders; here it is one picture more, and no picture is passed over."""
    folder = tmp_path / "photos"
    for place in (folder / "cat", folder / "train" / "dog", folder / "val" / "dog"):
        place.mkdir(parents=True)
        picture(place / "1.png", seed=len(str(place)))
    picture(folder / "loose.png")
    (folder / "notes.txt").write_text("hello")
    report = run(bundle, folder)
    names = [str(Path(p.input).relative_to(folder)) for p in report.predictions]
    assert (names, report.failures) == (["cat/1.png", "loose.png", "train/dog/1.png", "val/dog/1.png"], ())


def test_a_folder_called_digits_is_a_folder(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    picture(tmp_path / "digits" / "1.png")
    assert main(["run", str(bundle), "digits"]) == 2
    assert "write ./digits for the folder, builtin:digits for what is built in" in capsys.readouterr().err
    assert main(["run", str(bundle), "./digits", "--json"]) == 0
    assert [p["input"] for p in json.loads(capsys.readouterr().out)["predictions"]] == ["digits/1.png"]
    assert len(run(bundle, Path("digits")).predictions) == 1


def test_all_that_could_be_read_is_no_failure(bundle: Path) -> None:
    report = run(bundle, np.zeros((2, 3, 8, 8), np.float32))
    assert (report.failures, report.to_dict()["failed"]) == ((), [])


def test_a_row_of_nan_is_told_beside_the_others(bundle: Path) -> None:
    values = np.zeros((3, 3, 8, 8), np.float32)
    values[1, 0, 0, 0] = np.nan
    report = run(bundle, values)
    assert [p.input for p in report.predictions] == ["array 0[0]", "array 0[2]"]
    assert [str(error) for error in report.failures] == ["array 0[1]: holds NaN or infinity; mend or remove it"]


def test_pictures_are_saved_of_those_that_could_be_read(tmp_path: Path) -> None:
    quarters(tmp_path / "a.png")
    quarters(tmp_path / "c.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    report = run(seg_bundle(tmp_path / "s.edge"), [tmp_path / f"{n}.png" for n in "abc"], save=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mask.png")) == ["a.mask.png", "c.mask.png"]
    assert report.predictions[1].files == tuple(str(tmp_path / "out" / f"c.{k}.png") for k in ("mask", "overlay"))
    assert len(report.unread) == 1


def test_a_list_of_pictures_answers_in_their_own_pixels(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    quarters(tmp_path / "images" / "a.png")
    document = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4]}]}  # fmt: skip
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    bundle = det_bundle(tmp_path / "d.edge")
    listed, alone = (run(bundle, tmp_path / name) for name in ("annotations.json", "images/a.png"))
    assert [b.box for b in listed.predictions[0].boxes] == [b.box for b in alone.predictions[0].boxes]


def test_each_task_has_its_own_name_for_the_answers(bundle: Path, tmp_path: Path) -> None:
    """What a type checker sees is what is there; another task's name is refused, never empty."""
    quarters(tmp_path / "a.png")
    made = {"classes": bundle, "masks": seg_bundle(tmp_path / "s.edge"), "boxes": det_bundle(tmp_path / "d.edge")}
    kinds = {"classes": Prediction, "masks": MaskPrediction, "boxes": BoxesPrediction}
    for own, path in made.items():
        report = run(path, tmp_path / "a.png")
        for name, kind in kinds.items():
            hints = get_type_hints(getattr(type(report), name).fget)
            assert hints["return"] == tuple[kind, ...]  # type: ignore[valid-type]
            if name == own:
                assert getattr(report, name) == report.predictions
                continue
            with pytest.raises(BadInput, match=f"answers with {own}, not with {name}; read `.{own}`"):
                getattr(report, name)
