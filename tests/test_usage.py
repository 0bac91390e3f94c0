"""What a bundle's page tells its reader to type works as it stands, and gives the answers of `api.run`."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecnn import api
from edgecnn.cli import main
from edgecnn.latency import benchmark
from exporters.pack import pack
from runtimes.device import bench
from runtimes.device.main import main as device_main
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import open_session
from small_nets import model
from test_device_bundle import ABSENT, cls_bundle
from test_predict import ABOUT, NET, det_bundle, seg_bundle

GREY = Preprocess(size=(8, 8), channels=1, mean=(0.5,), std=(0.25,))


def grey_bundle(path: Path) -> Path:
    """Two classes of a grey picture, which it is made of a coloured one."""
    net = model(
        """<ir_version: 9, opset_import: ["" : 20]>
        g (float[N, 1, 8, 8] x) => (float[N, 2] y) { m = GlobalMaxPool (x) n = Neg (m) c = Concat <axis = 1> (m, n)
           y = Flatten (c) }"""
    )
    about = {**ABOUT, "labels": ["bright", "dark"], "preprocess": GREY.to_dict()}
    about["input"] = {**ABOUT["input"], "shape": ["N", 1, 8, 8]}
    about["output"] = {**ABOUT["output"], "shape": ["N", 2]}
    images = np.ones((1, 1, 8, 8), np.float32)
    pack(path, net, about, [images], [open_session(net)({"x": images})["y"]], 0.0)
    return path


def net_bundle(path: Path, runtime: bool = True, **changes: Any) -> Path:
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    about = {**ABOUT, **changes}
    pack(path, NET, about, [images], [open_session(NET)({"x": images})["y"]], 0.0, runtime=runtime)
    return path


def array_bundle(path: Path) -> Path:
    """Ten classes of arrays that are no pictures, without the program of a device."""
    return net_bundle(path, runtime=False, preprocess=None)


def other_bundle(path: Path) -> Path:
    """No known task: numbers."""
    return net_bundle(path, task="other", labels=[])


MADE = {
    "classes": cls_bundle, "masks": seg_bundle, "boxes": det_bundle, "grey": grey_bundle, "arrays": array_bundle,
    "other": other_bundle,
}  # fmt: skip


@dataclass(frozen=True)
class Told:
    """A folder with a bundle, what its page prints, and the inputs that the commands name."""

    kind: str
    folder: Path
    bundle: Path
    blocks: list[str]

    @property
    def snippet(self) -> str:
        return self.blocks[-1]

    @property
    def programs(self) -> list[str]:
        return ["edgecnn"] if self.kind == "arrays" else ["edgecnn", "python"]

    @property
    def commands(self) -> list[list[str]]:
        return [shlex.split(line) for block in self.blocks[:-1] for line in block.splitlines()]


@pytest.fixture(params=MADE)
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Told:
    make: Callable[[Path], Path] = MADE[request.param]
    bundle = make(tmp_path / "it's a net.edge")
    api.report(bundle, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    np.save(tmp_path / "inputs.npy", rng.standard_normal((2, 3, 8, 8), np.float32))
    np.save(tmp_path / "pixels.npy", pixels if request.param != "arrays" else np.load(tmp_path / "inputs.npy")[0])
    return Told(request.param, tmp_path, bundle, blocks_of(text))


def blocks_of(page: str) -> list[str]:
    """What a reader copies."""
    return [html.unescape(block) for block in re.findall(r"<pre[^>]*><code>(.*?)</code>", page, re.DOTALL)]


def test_every_command_works_and_answers_as_the_api_does(
    told: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the folder of the bundle, as a reader would type them there; quick ones are not timed for ten seconds."""
    monkeypatch.chdir(told.folder)
    for module in (bench, benchmark):
        monkeypatch.setattr(module, "PROBES", 1)
    wanted = [(program, name) for program in told.programs for name in ("verify", "run", "bench")]
    assert [(words[0], words[1 if words[0] == "edgecnn" else 2]) for words in told.commands] == wanted
    for words in told.commands:
        name = words[1 if words[0] == "edgecnn" else 2]
        few = ["--iterations", "2", "--warmup", "0"] if name == "bench" else []
        if words[0] == "edgecnn":
            assert main([*words[1:], *few, "--json"]) == 0, words
        else:
            assert device_main([*words[2:], *few, "--json"], words[1]) == 0, words
        document = json.loads(capsys.readouterr().out)
        if name == "run":
            found = api.run(told.bundle.name, words[-1]).to_dict()
            assert document == json.loads(json.dumps(found)), words
        assert name != "verify" or document["passed"] is True


def pasted(told: Told, code: str) -> str:
    """`code` in a Python that has numpy and ONNX Runtime; without a program in the bundle, `runtimes` is installed."""
    own = "python" in told.programs
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))\n{code}\nprint(open_bundle.__code__.co_filename)"
    )
    root = {} if own else {"PYTHONPATH": str(Path(__file__).parent.parent)}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | root
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=told.folder, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    said, place = done.stdout.splitlines()
    assert (Path(place) == Path(told.bundle.name, "runtimes", "bundle.py")) is own
    return said


def test_the_snippet_says_what_the_api_says(told: Told) -> None:
    """As it stands, with an empty picture, and with one of the reader's in its place."""
    empty = re.search(r"np\.zeros\((\(.*?\)), np\.(\w+)\)", told.snippet)
    assert empty is not None
    shape, dtype = json.loads(f"[{empty[1][1:-1]}]"), empty[2]
    given: dict[str, Any] = {
        empty[0]: np.zeros(shape, dtype),
        'np.load("pixels.npy")': np.load(told.folder / "pixels.npy"),
    }
    for expression, image in given.items():
        said = pasted(told, told.snippet.replace(empty[0], expression))
        assert said == api.run(told.bundle, image).predictions[0].words


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_a_shell_takes_the_lines_as_they_are(tmp_path: Path) -> None:
    """Copied from the page and pasted, the file's name quoted for the shell."""
    bundle = cls_bundle(tmp_path / "-it's a $net.edge")
    api.report(bundle, tmp_path / "page.html")
    _, device, _ = blocks_of((tmp_path / "page.html").read_text("utf-8"))
    line = next(text for text in device.splitlines() if " verify" in text)
    environment = {**os.environ, "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))}
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "proven on cpu" in done.stdout
