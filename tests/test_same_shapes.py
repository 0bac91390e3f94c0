"""Models raced against each other are fed the same sizes, or are refused; never compared at different ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecnn.cli import main
from edgecnn.latency import benchmark
from edgecnn.latency.benchmark import bench
from edgecnn.latency.job import Job
from edgecnn.latency.same_shapes import same_shapes
from edgecnn.profiling.profile import profile
from runtimes.base import BadInput
from runtimes.execution.feeds import TensorInfo
from small_nets import conv_net, model, save

OPEN = """<ir_version: 9, opset_import: ["" : 20]>
open (float[N, 3, H, W] x) => (float[N, 3, 1, 1] y) { y = GlobalAveragePool (x) }"""

pytestmark = pytest.mark.usefixtures("quick_measurements")


def told(batch: int = 1, asked: tuple[str, ...] = (), **inputs: tuple[str, tuple[int | str | None, ...]]) -> list[str]:
    """The shapes that models get, each with one input (name, declared sizes)."""
    like = Job("", "cpu", 1, batch, 0, asked)
    wanted = {name: [TensorInfo(key, "float32", shape)] for name, (key, shape) in inputs.items()}
    return [" ".join(job.input_shape) for job in same_shapes(dict.fromkeys(inputs, like), wanted).values()]


@pytest.mark.parametrize(
    ("a", "b", "shapes"),
    [
        (("x", ("N", 3, 64, 64)), ("x", ("N", 3, 64, 64)), ["", ""]),  # nothing to tell
        (("x", (1, 3, 64, 64)), ("image", ("N", 3, "H", "W")), ["", "image:2,3,64,64"]),  # each has one input
        (("x", ("N", 3, "H", None)), ("x", ("N", 3, 32, 48)), ["x:2,3,32,48", ""]),  # whichever is first
        (("x", ("N", 64, 48, 3)), ("x", ("N", 3, "H", "W")), ["", "x:2,3,64,48"]),  # pixels, channels last
        (("x", ("N", 64, 48, 3)), ("x", ("N", 3, 64, 48)), ["", ""]),
        (("x", ("N", 3, 64, 64)), ("x", ("N", 100)), ["", ""]),  # another rank is another thing
        (("x", ("N", 3, "H", "W")), ("x", ("N", 3)), ["", ""]),  # open or not
        (("x", ("N", "T")), ("x", ("N", 100)), ["x:2,100", ""]),
        (("x", ("N", 3, 64, 64)), ("x", ("N", 1, "H", "W")), ["", ""]),  # grey against colours
        (("x", ("N", 3, "H", "W")), ("x", ("N", 3, "H", "W")), ["", ""]),  # the session says what is missing
    ],
)
def test_what_is_open_is_filled(
    a: tuple[str, tuple[int, ...]], b: tuple[str, tuple[int, ...]], shapes: list[str]
) -> None:
    batch = 1 if isinstance(a[1][0], int) else 2
    assert told(batch, a=a, b=b) == [shape.replace(":2,", f":{batch},") for shape in shapes]


def test_which_of_several_inputs_it_is_says_the_name_alone() -> None:
    like, fixed = Job("", "cpu", 1, 1, 0, ()), TensorInfo("x", "float32", ("N", 3, 64, 64))
    mask = TensorInfo("mask", "float32", ("N", 3, 32, 32))
    for key, shape in (("image", ()), ("mask", ("mask:1,3,32,32",))):
        wanted = {"a": [fixed, mask], "b": [TensorInfo(key, "float32", ("N", 3, "H", "W"))]}
        assert same_shapes({"a": like, "b": like}, wanted)["b"].input_shape == shape


def test_fixed_sizes_that_differ_are_refused() -> None:
    with pytest.raises(BadInput, match=r"b: input 1x3x224x224, but a: 1x3x64x64; .*--input-shape"):
        told(a=("x", ("N", 3, 64, 64)), b=("x", ("N", 3, 224, 224)))
    with pytest.raises(BadInput, match=r"b: input 4x3x64x64, but a: 1x3x64x64; .*--batch 4"):
        told(a=("x", ("N", 3, 64, 64)), b=("x", (4, 3, 64, 64)))
    with pytest.raises(BadInput, match="c: input 1x3x32x32, but b: 1x3x64x64"):
        told(a=("x", ("N", 3, "H", "W")), b=("x", ("N", 3, 64, 64)), c=("x", ("N", 3, 32, 32)))


def test_a_shape_that_does_not_fit_is_refused_before_a_network_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(model(OPEN), tmp_path / "m.onnx")
    asked: list[str] = []

    def inputs(job: Job) -> tuple[TensorInfo, ...]:
        asked.append(job.kind)
        return (TensorInfo("x", "float32", ("N", 3, "H", "W")),)

    monkeypatch.setattr("edgecnn.latency.assumptions.inputs_of", inputs)
    with pytest.raises(
        BadInput, match=r"m\.onnx: input x wants float32 \[N, 3, H, W\], the shape given is \[97, 131\]"
    ):
        bench(["torch:lenet5", str(file)], input_shape="97,131")
    assert asked == ["onnx"]


def test_every_command_takes_a_shape_without_its_batch(tmp_path: Path) -> None:
    file = str(save(model(OPEN), tmp_path / "m.onnx"))
    for command in (
        ["bench", file, "--iterations", "2"], ["bench", file, file, "--iterations", "2", "--batch", "2"],
        ["profile", file, "--iterations", "2"], ["inspect", file], ["check", file, file],
        ["simplify", file, "-o", str(tmp_path / "s.onnx")], ["fold", file, "-o", str(tmp_path / "f.onnx")],
    ):  # fmt: skip
        force = ["--force"] if "-o" in command else []
        for shape in ("3,9,7", "x:3,9,7", "1,3,9,7") if command[0] in ("inspect", "fold") else ("3,9,7",):
            assert main([*command, *force, "--input-shape", shape]) == 0, (command, shape)


def test_what_the_user_gives_comes_first() -> None:
    shape = ("1,3,32,32",)
    assert told(1, shape, a=("x", ("N", 3, "H", "W")), b=("x", ("N", 3, "H", "W"))) == list(shape * 2)


def test_a_race_is_at_one_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "PROBES", 1)
    small, other = save(conv_net(size=8), tmp_path / "a.onnx"), save(conv_net(size=16), tmp_path / "b.onnx")
    free = save(model(OPEN), tmp_path / "free.onnx")
    few = ["--iterations", "3", "--threads", "1"]
    assert main(["bench", str(free), str(small), "--batch", "2", *few]) == 0
    shown = capsys.readouterr().out
    assert "cpu, 1 thread, batch 2, fed 2x3x8x8" in shown
    assert main(["bench", str(small), str(other), *few]) == 2
    assert f"{other}: input 1x3x16x16, but {small}: 1x3x8x8; " in capsys.readouterr().err
    document = bench([small, free], iterations=3, warmup=1, threads=1).to_dict()
    assert [row["inputs"] for row in document["models"]] == [{"x": [1, 3, 8, 8]}] * 2
    with pytest.raises(BadInput, match="1x3x16x16"):
        profile(small, against=other, iterations=2)


def test_a_profile_fills_the_other_ones_size(tmp_path: Path) -> None:
    small, free = save(conv_net(size=8), tmp_path / "a.onnx"), save(model(OPEN), tmp_path / "free.onnx")
    report = profile(free, against=small, iterations=2)
    assert report.measured.pieces[0].ran.inputs[0][1] == (1, 3, 8, 8)
