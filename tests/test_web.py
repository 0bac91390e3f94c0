"""docs/web.md: its JavaScript cuts and answers as edgecnn does, and the script of bench/web.py is one Node.js takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.proof.answers import best
from test_bench import ROOT

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node.js here")
CANVAS = """
const drawn = [];
globalThis.ort = { Tensor: class { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } } };
globalThis.OffscreenCanvas = class {
  constructor(width, height) { this.width = width; this.height = height; }
  getContext() {
    const { width, height } = this;
    return {
      drawImage: (picture, ...box) => drawn.push(box.map(Math.round)),
      getImageData: () => ({ data: Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) => i % 256) }),
    };
  }
};
"""


def ran(code: str) -> Any:
    """What the page's functions and `code`, which prints JSON, say under Node.js."""
    assert NODE is not None
    page = re.search(r"```js\n(.*?)```", (ROOT / "docs" / "web.md").read_text("utf-8"), re.DOTALL)
    assert page is not None
    text = CANVAS + page[1] + code
    return json.loads(subprocess.run([NODE, "-e", text], check=True, stdout=subprocess.PIPE, text=True).stdout)


@pytest.mark.parametrize(
    ("resize", "box"),
    [(None, [0, 0, 300, 200]), (8, [100, 50, 100, 100]), (4, [50, 0, 200, 200])],
)
def test_a_picture_is_cut_as_here(resize: int | None, box: list[int]) -> None:
    """Of 300 x 200 for 4 x 4: all of it, or of the shorter side made `resize` the middle."""
    how = {"size": [4, 4], "resize": resize, "input": "uint8-nhwc"}
    code = f"const t = pixels({{width: 300, height: 200}}, {json.dumps(how)});"
    found = ran(code + "console.log(JSON.stringify({...t, data: [...t.data], drawn}));")
    assert found["drawn"] == [[*box, 0, 0, 4, 4]]
    assert (found["type"], found["dims"]) == ("uint8", [1, 4, 4, 3])
    assert found["data"] == [i for i in range(64) if i % 4 < 3]


@pytest.mark.parametrize("how", [{"input": "float32"}, {"input": "uint8-nhwc", "letterbox": 114}])
def test_another_preprocessing_is_refused(how: dict[str, Any]) -> None:
    text = json.dumps({"size": [4, 4], **how})
    found = ran(
        f"try {{ pixels({{width: 4, height: 4}}, {text}) }} catch (e) {{ console.log(JSON.stringify(e.message)) }}"
    )
    assert found == "another preprocessing: see docs/cpp.md"


@pytest.mark.parametrize("scores", [[1.5, -2.0, 300.0, 298.5], [0.25, 0.125, 0.5, 0.125]], ids=["logits", "shares"])
def test_scores_are_those_of_here(scores: list[float]) -> None:
    manifest = {
        "input": {"name": "x"}, "output": {"name": "y"}, "labels": ["a", "b", "c"],
        "preprocess": {"size": [2, 2], "input": "uint8-nhwc"},
    }  # fmt: skip
    code = f"""const session = {{ run: async ({{x}}) => ({{ y: {{ data: Float32Array.from({scores}) }} }}) }};
        classify({{ manifest: {json.dumps(manifest)}, session }}, {{width: 2, height: 2}})
          .then((found) => console.log(JSON.stringify(found)));"""
    found = ran(code)
    want = best(np.array(scores, np.float32), ["a", "b", "c"], 4)
    assert [one["label"] for one in found] == [one.label for one in want]
    assert [one["score"] for one in found] == pytest.approx([one.score for one in want], abs=1e-6)


def test_node_takes_the_script_of_the_race(tmp_path: Path) -> None:
    """With a stand-in for onnxruntime-web: rounds are counted, warm-up is not, every model answers once."""
    assert NODE is not None
    package = tmp_path / "node_modules" / "onnxruntime-web"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"main": "index.js"}')
    (package / "index.js").write_text(
        """exports.Tensor = class { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } };
        exports.env = { wasm: {}, versions: { web: "1.0" } };
        exports.InferenceSession = { create: async (bytes) => ({
          outputNames: ["y"], inputMetadata: [{ name: "x", shape: ["batch", 3], type: "float32" }],
          run: async ({ x }) => ({ y: { data: x.data.map((v) => v * bytes.length), dims: x.dims } }) }) };"""
    )
    np.array([1, 2, 3], np.float32).tofile(tmp_path / "in.f32")
    for i in (1, 2):
        (tmp_path / f"{i}.onnx").write_bytes(b"x" * i)
    script = str(ROOT / "bench" / "web.mjs")
    args = [NODE, script, "4", "2", "in.f32", "1.onnx", "2.onnx"]
    found = json.loads(subprocess.run(args, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert found["version"] == "1.0"
    assert [len(one["cpu_ms"]) for one in found["models"].values()] == [4, 4]
    assert {name: one["output"] for name, one in found["models"].items()} == {"1.onnx": [1, 2, 3], "2.onnx": [2, 4, 6]}
