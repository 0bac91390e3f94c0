"""`run --input-shape` of a size that a network cannot take names the nearest one that it can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn.cli import main
from edgecnn.prediction.predict import run
from exporters.pack import pack
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof.sizes import nearest
from runtimes.session import open_session
from small_nets import model
from test_device_bundle import on_device
from test_predict import ABOUT

HALVED = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, H, W] x) => (float[N, 6, H2, W2] y)
<float[4] twice = {1.0, 1.0, 8.0, 8.0}> {
    a = MaxPool <kernel_shape = [8, 8], strides = [8, 8]> (x)
    b = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric"> (a, , twice)
    y = Concat <axis = 1> (x, b)
}
"""
"""Maps are divided by eight, taken times eight and joined: only multiples of 8 meet again."""


def open_bundle_of(path: Path, note: str = "", **preprocess: object) -> Path:
    net = model(HALVED)
    ready = Preprocess((16, 16), **preprocess)  # type: ignore[arg-type]
    images = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    about = {
        **ABOUT, "task": "segmentation", "labels": [], "preprocess": ready.to_dict(),
        "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, "H", "W"]},
        "output": {"name": "y", "dtype": "float32", "shape": ["N", 6, "H2", "W2"]},
        "stages": [{"name": "export", "note": note}, {"name": "fold", "note": ""}],
    }  # fmt: skip
    pack(path, net, about, [images], [open_session(net)({"x": images})["y"]], 0.0)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    ("asked", "works"), [("3,97,161", "3,96,160"), ("3,21,40", "3,24,40"), ("1,3,3,5", "3,8,8"), ("3,20,28", "3,24,32")]
)
def test_the_nearest_size_that_runs_is_named(asked: str, works: str, picture: Path, tmp_path: Path) -> None:
    bundle = open_bundle_of(tmp_path / "n.edge")
    with pytest.raises(BadInput) as caught:
        run(bundle, picture, input_shape=asked)
    said = str(caught.value)
    assert said.startswith(f"--input-shape {asked}: {bundle} does not run at ")
    assert said.endswith(f"; {works} works")
    assert len(run(bundle, picture, input_shape=works).predictions) == 1, "it does"


def test_a_step_on_record_is_named(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = open_bundle_of(
        tmp_path / "n.edge", "heights and widths in steps of 8 from 16x16, proven at 16x16 and 40x24"
    )
    assert main(["run", str(bundle), str(picture), "--input-shape", "3,97,161"]) == 2
    said = capsys.readouterr().err
    line = (
        f"error: --input-shape 3,97,161: {bundle} takes heights and widths in steps of 8 from 16x16; 3,96,160 works\n"
    )
    assert said == line
    assert main(["run", str(bundle), str(picture), "--input-shape", "3,24,40"]) == 0


def test_steps_of_which_no_smaller_were_tried_are_not_claimed(picture: Path, tmp_path: Path) -> None:
    bundle = open_bundle_of(tmp_path / "n.edge", "heights and widths in steps of 32, proven at 16x16 and 80x48")
    with pytest.raises(BadInput, match=r"n\.edge does not run at 97x161; 3,96,160 works"):
        run(bundle, picture, input_shape="3,97,161")


def test_a_step_is_not_the_reason_where_it_was_kept(picture: Path, tmp_path: Path) -> None:
    bundle = open_bundle_of(
        tmp_path / "n.edge", "heights and widths in steps of 2 from 16x16, proven at 16x16 and 22x18"
    )
    with pytest.raises(BadInput, match=r"n\.edge does not run at 18x34; 3,16,32 works"):
        run(bundle, picture, input_shape="3,18,34")


def test_the_bundles_own_program_says_the_same(tmp_path: Path) -> None:
    bundle = open_bundle_of(tmp_path / "n.edge")
    np.save(tmp_path / "a.npy", np.zeros((9, 9, 3), np.uint8))
    done = on_device(bundle, "run", tmp_path / "a.npy", "--input-shape", "3,97,161")
    assert (done.returncode, done.stderr.endswith("does not run at 97x161; 3,96,160 works\n")) == (2, True)


def test_where_no_size_helps_the_built_one_is_named(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle_of(tmp_path / "n.edge")
    monkeypatch.setattr("runtimes.proof.sizes.nearest", lambda *_: iter(()))
    with pytest.raises(BadInput, match="leave it out for the size that it was built for"):
        run(bundle, picture, input_shape="3,97,161")


def test_damaged_records_are_no_steps(picture: Path, tmp_path: Path) -> None:
    for note in ("in steps of 0 from 1", *(f"heights and widths in steps of {n} from 16x16" for n in (0, 99999))):
        with pytest.raises(BadInput, match="does not run at 97x161; 3,96,160 works"):
            run(open_bundle_of(tmp_path / f"{len(note)}.edge", note), picture, input_shape="3,97,161")
    assert next(nearest((1, 1), (16, 16), 32)) == (16, 16)


def test_one_side_beside_the_steps_is_enough_to_name_them(picture: Path, tmp_path: Path) -> None:
    note = "heights and widths in steps of 8 from 16x16, proven at 16x16 and 40x24"
    for asked in ("3,96,161", "3,97,160"):
        with pytest.raises(BadInput, match=r"takes heights and widths in steps of 8 from 16x16; 3,96,160 works"):
            run(open_bundle_of(tmp_path / f"{asked}.edge", note), picture, input_shape=asked)


def test_steps_on_record_are_counted_from_the_size_it_was_built_for_and_others_from_wherever_is_near() -> None:
    assert next(nearest((97, 161), (100, 100), 32)) == (100, 164)
    assert next(nearest((96, 160), (99, 99), None)) == (96, 160)
    assert (52, 52) in nearest((50, 50), (48, 48), None), "in steps of 4"
