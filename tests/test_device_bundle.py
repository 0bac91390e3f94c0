"""`python NAME.edge`: a bundle runs by itself, and answers as edgecnn does, where there is no edgecnn."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import cuda_stand_in
import edgecnn.cli
from edgecnn import api
from edgecnn.cli import build as build_command
from edgecnn.cli._click import group
from edgecnn.latency import benchmark
from edgecnn.prediction.predict import foreign_code
from exporters.device_code import device_code
from exporters.pack import pack
from runtimes.bundle import FLOAT_MODEL, GOLDEN, MANIFEST, MODEL, golden_bytes, open_bundle
from runtimes.device import bench
from runtimes.device.about import described
from runtimes.device.arguments import USES, parser
from runtimes.device.main import main
from runtimes.execution.fresh import TIMEOUT_S
from runtimes.execution.model_file import built_size
from runtimes.proof import verification
from runtimes.session import open_session
from small_nets import conv_net, save
from test_benchmark import endless
from test_pack import heavy
from test_predict import ABOUT, NET, PREPROCESS, det_bundle, seg_bundle

ABSENT = ("edgecnn", "exporters", "torch", "onnx", "click", "rich", "PIL")
"""Not on a device: an import of one of them fails in the child, and PIL cannot be found."""
CHILD = (
    f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT!r})); sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def cls_bundle(path: Path, **options: Any) -> Path:
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    pack(path, NET, ABOUT, [images], [open_session(NET)({"x": images})["y"]], 0.0, **options)
    return path


def picture(path: Path) -> Path:
    """A PPM, which needs no Pillow."""
    pixels = np.random.default_rng(1).integers(0, 256, (40, 80, 3), np.uint8)
    path.write_bytes(b"P6 80 40 255\n" + pixels.tobytes())
    return path


def on_device(bundle: Path | str, *args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, str(bundle), *map(str, args)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, **options)


@pytest.mark.parametrize("made", [cls_bundle, seg_bundle, det_bundle], ids=["classes", "masks", "boxes"])
def test_it_answers_as_edgecnn_does(made: Callable[[Path], Path], tmp_path: Path) -> None:
    """In a folder with a space and an umlaut, from another folder, by a relative path."""
    folder = tmp_path / "auf dem Gerät"
    folder.mkdir()
    made(folder / "net.edge")
    image = picture(folder / "a.ppm")
    np.save(folder / "b.npy", PREPROCESS(np.zeros((4, 4), np.uint8)))
    before = sorted(folder.iterdir())
    inputs = ["a.ppm", "../auf dem Gerät/b.npy"]
    top = 3 if made is cls_bundle else None
    done = on_device("net.edge", "run", *inputs, *(["--top", "3"] if top else []), "--json", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    wanted = api.run(folder / "net.edge", [image, folder / "b.npy"], top=top).to_dict()
    for entry, name in zip(wanted["predictions"], inputs, strict=True):
        entry["input"] = name
    assert json.loads(done.stdout) == json.loads(json.dumps({**wanted, "bundle": "net.edge"}))
    assert sorted(folder.iterdir()) == before


def test_what_does_nothing_is_told(tmp_path: Path) -> None:
    seg_bundle(tmp_path / "net.edge")
    picture(tmp_path / "a.ppm")
    done = on_device("net.edge", "run", "a.ppm", "--top", "3", cwd=tmp_path)
    line = "warning: --top 3: does nothing, for net.edge answers with no classes\n"
    assert (done.returncode, done.stderr) == (0, line)


def test_what_it_cannot_read_is_named_and_the_others_are_answered(tmp_path: Path) -> None:
    cls_bundle(tmp_path / "net.edge")
    picture(tmp_path / "a.ppm")
    (tmp_path / "zer0").write_bytes(b"x")
    done = on_device("net.edge", "run", "zer0", "a.ppm", ".", "none.npy", "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert [p["input"] for p in document["predictions"]] == ["a.ppm"]
    assert [p["input"] for p in document["failed"]] == ["zer0", ".", "none.npy"]
    assert (done.returncode, done.stderr.count("\n")) == (2, 3)
    assert on_device("net.edge", "run", "zer0", "none.npy", cwd=tmp_path).stderr.count("(and 1 more") == 1


def test_python_itself_starts_it(tmp_path: Path) -> None:
    """No helper: `python -I NAME.edge`, which says what it is."""
    path = cls_bundle(tmp_path / "net.edge")
    done = subprocess.run([sys.executable, "-I", path], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "network  made, made by edgecnn 0"
    assert "input    x float32 [N, 3, 8, 8], colour pictures of 8 x 8" in lines
    assert "answers  10: zero, one, two, three, four, five, six, seven, eight, nine" in lines
    assert lines[-1].strip() == f"python {path} bench"


def test_it_says_what_its_answers_are(tmp_path: Path) -> None:
    path = changed(cls_bundle(tmp_path / "net.edge"), lambda manifest, _: manifest.update(task="other"))
    words = on_device(path).stdout
    assert "answers  numbers, of no known task" in words.splitlines()
    for use in ("run IMAGE...", "verify", "bench"):
        assert f"{path} {use}" in words
    assert "numbers" not in on_device(tmp_path / "net.edge").stdout


@pytest.mark.parametrize(("race", "what"), [({"clock": "cpu"}, "raced on"), (None, "built on")])
def test_it_says_where_it_was_raced_or_only_built(race: dict[str, str] | None, what: str, tmp_path: Path) -> None:
    machine = {"cpu": "Some CPU", "isa": ["avx2", "vnni"]}
    path = changed(cls_bundle(tmp_path / "n.edge"), lambda manifest, _: manifest.update(race=race, machine=machine))
    lines = [line.split(maxsplit=2) for line in on_device(path).stdout.splitlines()]
    assert [*what.split(), "Some CPU (avx2, vnni)"] in lines
    nobody = changed(tmp_path / "n.edge", lambda manifest, _: manifest.update(race=race, machine={"isa": []}))
    assert what not in on_device(nobody).stdout


VERDICT = "int8 is 2.00x of float's speed on this CPU: predicted (this CPU is vnni)"


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ({"cpu": "Some CPU"}, "Some CPU"),
        ({"cpu": "x" * 300}, f"{'x' * 38}...{'x' * 38}"),
        ({"cpu": "a\nb"}, "a\\nb"),
        ({"cpu": ""}, "the CPU that it was made on"),
        (None, "the CPU that it was made on"),
        ({"cpu": 3}, "the CPU that it was made on"),
    ],
)
def test_the_race_names_the_cpu_that_it_was_run_on(machine: object, name: str, tmp_path: Path) -> None:
    """Whoever reads it may sit at another one."""
    told = {"verdict": VERDICT, "machine": machine}
    opened = open_bundle(changed(cls_bundle(tmp_path / "n.edge"), lambda manifest, _: manifest.update(told)))
    assert dict(described(opened))["race"] == VERDICT.replace("this CPU", name)


def test_its_code_comes_out_of_the_bundle(tmp_path: Path) -> None:
    """The repository's `runtimes` is installed here too: the bundle's is used."""
    path = cls_bundle(tmp_path / "net.edge")
    script = "import os; del os.fork; "  # what a fork has loaded is not seen here
    script += CHILD.replace("runpy.run", "exec('try: runpy.run").replace("'__main__')", '"__main__")\\nfinally: ')
    script += 'print(sys.modules["runtimes.session"].__file__, file=sys.stderr)\')'
    command = [sys.executable, "-c", script, str(path), "verify", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == str(path / "runtimes" / "session.py")


def test_verify_is_edgecnns_but_for_who_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cls_bundle(tmp_path / "net.edge")
    done = on_device(path, "verify", "--threads", "1", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert edgecnn.cli.main(["verify", str(path), "--threads", "1", "--json"]) == 0
    here, there = json.loads(capsys.readouterr().out), json.loads(done.stdout)
    assert (here.pop("code"), there.pop("code")) == ("own", "itself")
    assert here == there


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> Path:
    """A copy of the bundle `path` after `change(manifest, members)`."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    manifest = json.loads(members.pop(MANIFEST))
    change(manifest, members)
    copy = path.with_name("copy.edge")
    with zipfile.ZipFile(copy, "w") as new:
        for name, data in {MANIFEST: json.dumps(manifest).encode(), **members}.items():
            new.writestr(name, data)
    return copy


def entry(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def test_a_check_that_fails_is_exit_1_and_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cls_bundle(tmp_path / "net.edge")
    inputs, outputs = open_bundle(path).golden()
    moved = golden_bytes(inputs, [outputs[0] + np.float32(1)])

    def move(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        members[GOLDEN], manifest["files"][GOLDEN] = moved, entry(moved)

    copy = changed(path, move)
    assert main(["verify", "--json"], str(copy)) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["passed"] is False
    assert err.startswith(f"error: {copy}: golden outputs differ by 1")


def test_damage_to_the_program_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cls_bundle(tmp_path / "net.edge")
    damaged = str(changed(path, lambda _, members: members.update({"runtimes/words.py": b"print('hello')"})))
    for run in (lambda: main(["verify", "--json"], damaged), lambda: edgecnn.cli.main(["verify", damaged, "--json"])):
        assert run() == 1
        document = json.loads(capsys.readouterr().out)
        assert document["hashes"] is document["passed"] is False
        assert "runtimes/words.py was changed after packing" in document["error"]


@pytest.mark.parametrize(
    "member", ["device/main", "device/process", "proof/verification", "proof/golden", "imaging/shown", "session"]
)
@pytest.mark.parametrize("place", ["directory", "text"])
def test_a_program_that_is_damaged_is_no_bug(member: str, place: str, tmp_path: Path) -> None:
    """A letter of the name in the directory of the zip, or a byte of the module: whichever module that is."""
    path = cls_bundle(tmp_path / "net.edge")
    name = f"runtimes/{member}.py".encode()
    data = bytearray(path.read_bytes())
    data[data.rindex(name) + 10 if place == "directory" else data.index(name) + len(name) + 40] ^= 1
    path.write_bytes(data)
    picture(tmp_path / "a.ppm")
    for arguments, code in ((["verify"], 1), (["run", tmp_path / "a.ppm"], 2)):
        if arguments[0] == "run" and member == "proof/verification":
            continue  # is not needed
        done = on_device(path, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
        assert re.match(rf"error: {re.escape(str(path))}: .*cop(y|ied)", done.stderr)
    assert edgecnn.cli.main(["verify", str(path)]) == 1


def test_one_flipped_byte_is_found_by_python_itself_too(tmp_path: Path) -> None:
    path = cls_bundle(tmp_path / "net.edge")
    data = bytearray(path.read_bytes())
    data[data.index(b"golden.npz", data.index(b"model.onnx")) + 200] ^= 1
    path.write_bytes(data)
    done = subprocess.run([sys.executable, path, "verify", "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error: {path}: golden.npz is damaged (Bad CRC-32 for file 'golden.npz'); copy or")
    assert json.loads(done.stdout).items() >= {"passed": False, "hashes": False}.items()


def test_other_code_is_told_from_our_own(tmp_path: Path) -> None:
    """Its hash is in order, as after a change by someone who knows how: only a second copy can tell."""
    path = cls_bundle(tmp_path / "net.edge")
    text = b"import os\n"

    def add(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        members["sitecustomize.py"], manifest["files"]["sitecustomize.py"] = text, entry(text)

    assert api.verify(path).code == "own"
    assert "this edgecnn's own" in api.verify(path).verdict
    other = changed(path, add)
    report = api.verify(other)
    assert (report.code, report.failure) == ("other", None)
    assert "NOT this edgecnn's" in report.verdict
    assert foreign_code(other).startswith(f"{other}: the code packed in it is NOT this edgecnn's: of another")
    assert foreign_code(cls_bundle(tmp_path / "own.edge")) == ""


def test_a_bundle_without_its_program_is_what_it_was(tmp_path: Path) -> None:
    path = cls_bundle(tmp_path / "net.edge", runtime=False)
    assert set(open_bundle(path).manifest["files"]) == {"model.onnx", "golden.npz"}
    assert api.verify(path).to_dict()["code"] is None
    assert "code" not in api.verify(path).verdict
    assert verification.whose({}, None) is None
    both = cls_bundle(tmp_path / "both.edge")
    image = np.zeros((3, 8, 8), np.float32)
    assert api.run(path, image).predictions == api.run(both, image).predictions
    assert open_bundle(both).code.keys() == device_code().keys()


def test_weights_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heavy(tmp_path / "m.edge", monkeypatch)
    done = on_device(tmp_path / "m.edge", "verify", "--json")
    assert json.loads(done.stdout)["passed"] is True
    done = on_device(tmp_path / "m.edge", "bench", "--iterations", "2", "--json")
    assert json.loads(done.stdout)["models"][0]["kernels"]["Conv"] == 1


def test_bench_races_what_the_bundle_holds_and_what_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        members[FLOAT_MODEL], manifest["files"][FLOAT_MODEL] = members[MODEL], manifest["files"][MODEL]

    for module in (bench, benchmark):
        monkeypatch.setattr(module, "PROBES", 1)  # each is a process
    plain = cls_bundle(tmp_path / "net.edge")
    path, other = str(changed(plain, add)), str(save(conv_net(), tmp_path / "other.onnx"))
    options = ["--iterations", "8", "--warmup", "1", "--threads", "1", "--batch", "2", "--json"]
    assert main(["bench", other, *options], path) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    names = [path, f"{path}:float.onnx", other]
    assert [row["model"] for row in document["models"]] == names
    assert [(r["a"], r["b"]) for r in document["ratios"]] == list(itertools.combinations(names, 2))
    wanted = api.bench([plain], iterations=8, warmup=1, threads=1, batch=2).to_dict()
    (row,) = wanted["models"]
    assert document.keys() == wanted.keys()
    for found in document["models"]:
        assert found.keys() == row.keys()
        assert found["load_ms"] > 0 < found["first_ms"]
        assert found["peak_rss_mb"] > 20
    for key in ("kernels", "inputs", "batch", "threads", "samples", "providers_used"):
        assert document["models"][0][key] == row[key]


def test_a_bundle_of_open_size_is_raced_at_the_size_it_was_built_for(tmp_path: Path) -> None:
    def open_size(manifest: dict[str, Any], _: dict[str, bytes]) -> None:
        manifest["input"]["shape"] = ["N", 3, "H", "W"]

    path = changed(cls_bundle(tmp_path / "net.edge"), open_size)
    assert built_size(path, 2) == ("2,3,8,8",)
    assert built_size(tmp_path / "net.edge", 2) == ()


# ------------------------------------------------------------------------------------------- one line, one exit code
@pytest.mark.parametrize(
    ("args", "code", "line"),
    [
        (["rnu"], 2, "rnu: unknown command; did you mean run?; see `python NET --help`"),
        (["run"], 2, "IMAGE: is missing; see `python NET run --help`"),
        (["run", "x.npy", "--topp=3"], 2, "--topp: unknown option; did you mean --top or --json? see"),
        (["run", "x.npy", "--top", "0"], 2, "--top: '0' is not a whole number of 1 or more; see"),
        (["run", "x.npy", "--min-score", "nan"], 2, "--min-score: 'nan' is not a number from 0 to 1"),
        (["run", "x.npy", "--threads", "4096"], 2, "--threads: '4096' is not a whole number from 1 to 1,024; see"),
        (["run", "x.npy"], 2, "x.npy: no such file; check the name"),
        (["run", "x.txt"], 2, "x.txt: unknown kind of data; pictures and .npy or .npz files are read"),
        (["run", "x.npy", "--input-shape", "3,9,9"], 2, "--input-shape 3,9,9: the model's input x is [N, 3, 8, 8]"),
        (["verify", "--provider", "cpuu"], 2, "cpuu: unknown provider; did you mean cpu or cuda?"),
        (["verify", "x.npy"], 2, "x.npy: more than the command takes; see"),
        (["bench", "none.onnx"], 2, "none.onnx: no such file; check the name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_bad_usage(
    args: list[str], code: int, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    cls_bundle(Path("net.edge"))
    assert main(args, "net.edge") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: " + line.replace("NET", "net.edge"))


def test_what_is_missing_is_exit_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, photo = str(cls_bundle(tmp_path / "net.edge")), tmp_path / "a.jpg"
    photo.write_bytes(b"\xff\xd8\xff\xe0 whatever follows")
    done = on_device(path, "run", photo)
    what = "reading it takes Pillow; `pip install pillow`, or give .npy, binary .ppm or .pgm"
    assert (done.returncode, done.stdout, done.stderr) == (4, "", f"error: {photo}: {what}\n")
    done = on_device(seg_bundle(tmp_path / "s.edge"), "run", picture(tmp_path / "a.ppm"), "--save", tmp_path / "out")
    assert (done.returncode, done.stderr[:36]) == (4, "error: --save: drawing pictures take")
    assert not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["verify"], path) == 4
    assert capsys.readouterr().err.startswith("error: onnxruntime: is not installed; `")


def test_a_model_that_never_ends_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, slow = str(cls_bundle(tmp_path / "net.edge")), endless(tmp_path / "endless.onnx")
    monkeypatch.setattr(bench, "PROBES", 1)
    monkeypatch.setitem(TIMEOUT_S, "ONNX Runtime", 3)
    assert main(["bench", str(slow), "--threads", "1"], path) == 2
    assert f"error: {slow}: loading it and one run take longer than 3 s; use a" in capsys.readouterr().err


def test_a_python_that_cannot_be_started_again_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upgraded away under a running service, or of a program that has Python built in."""
    path, gone = str(cls_bundle(tmp_path / "net.edge")), str(tmp_path / "python9")
    for executable, named in ((gone, gone), ("", "sys.executable is empty")):
        monkeypatch.setattr(sys, "executable", executable)
        assert main(["bench", "--threads", "1"], path) == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {named}: cannot be started (")
        assert line.endswith("; mend that Python (sys.executable), or free processes and memory")


def test_nothing_is_written_into_the_home(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would put an identifier there."""
    path, home = cls_bundle(tmp_path / "net.edge"), tmp_path / "home"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    assert on_device(path, "verify", env={**environment, "HOME": str(home)}).returncode == 0
    assert list(home.rglob("*")) == []


def test_require_all_is_asked_of_every_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, image = str(cls_bundle(tmp_path / "net.edge")), str(picture(tmp_path / "a.ppm"))
    cuda_stand_in.install(monkeypatch)
    assert main(["run", image, "--provider", "cuda"], path) == 0
    assert "1 image through" in capsys.readouterr().out
    assert main(["run", image, "--provider", "cuda", "--require-all", "--json"], path) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is False
    assert "nodes ran on cpu, not on cuda" in document["error"]


def test_pictures_are_saved_where_pillow_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, image = str(seg_bundle(tmp_path / "s.edge")), str(picture(tmp_path / "a.ppm"))
    assert main(["run", image, "--save", str(tmp_path / "out"), "--json"], path) == 0
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    assert found["files"] == [str(tmp_path / "out" / f"a.{kind}.png") for kind in ("mask", "overlay")]
    assert all(Path(file).stat().st_size > 0 for file in found["files"])


def test_the_snippets_of_the_documentation_run(tmp_path: Path) -> None:
    """`runtimes` is imported from the bundle, by a program that has nothing else."""
    text = (Path(__file__).parent.parent / "docs/device.md").read_text("utf-8")
    block = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    seg_bundle(tmp_path / "net.edge")
    script = f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))\n{block}\nprint(answer.__code__.co_filename)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    batch = [f"camera[{i}] red 100.0%" for i in range(4)]
    lines = [
        "red 100.0%",
        "red 100.0%",
        *batch,
        "red 100.0%",
        str(Path("net.edge", "runtimes", "proof", "answering.py")),
    ]
    assert (done.stdout.splitlines(), done.stderr) == (lines, "")


@pytest.mark.skipif(not hasattr(os, "pread"), reason="this system does not let an open file be renamed over")
@pytest.mark.parametrize("made", [cls_bundle, seg_bundle, det_bundle], ids=["classes", "masks", "boxes"])
def test_a_program_that_runs_out_of_a_bundle_outlives_its_replacement(
    made: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Replaced as soon as it is open: what is imported later comes from another file, so that nothing is."""
    text = (Path(__file__).parent.parent / "docs/device.md").read_text("utf-8")
    block = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    opening = 'bundle = open_bundle("net.edge")\n'
    assert block.count(opening) == 1
    made(tmp_path / "net.edge")
    (tmp_path / "new.edge").write_bytes(b"another file, of other places")
    swap = 'import os; os.replace("new.edge", "net.edge")\n'
    start = f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
    told = [
        subprocess.run(
            [sys.executable, "-c", start + program], capture_output=True, text=True, cwd=tmp_path, timeout=60
        )
        for program in (block, block.replace(opening, opening + swap))
    ]
    assert [(done.returncode, done.stderr) for done in told] == [(0, "")] * 2
    assert told[0].stdout == told[1].stdout != ""


def test_help_and_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(cls_bundle(tmp_path / "net.edge"))
    assert main(["--help"], path) == 0
    text = capsys.readouterr().out
    assert all(what in text for what in USES.values())
    assert main(["--version"], path) == 0
    assert capsys.readouterr().out == "made, made by edgecnn 0\n"
    for command in USES:
        assert main([command, "--help"], path) == 0
        assert "--provider NAME" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------- the same as edgecnn's
NOT_ON_A_DEVICE = {"bench": {"--weights", "--gate", "--baseline", "--tolerance", "--csv", "--plot", "--force"}}


@pytest.mark.parametrize("name", USES)
def test_options_have_edgecnns_names_and_defaults(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    theirs = {max(p.opts, key=len): p.default for p in command.params if isinstance(p, click.Option)}
    ours = {
        action.option_strings[-1]: action.default
        for action in parser("python net.edge", name)._actions
        if action.option_strings and action.option_strings != ["-h", "--help"]
    }
    assert theirs.keys() - ours.keys() == NOT_ON_A_DEVICE.get(name, set())
    assert ours.keys() <= theirs.keys()
    for option, default in ours.items():
        wanted = theirs[option] if isinstance(theirs[option], int | float | str) else None  # click has its own word
        assert (default or None) == (wanted or None), option


def test_build_can_leave_the_program_out() -> None:
    (option,) = (p for p in build_command.command.params if p.name == "runtime")
    assert (option.default, option.secondary_opts) == (True, ["--no-runtime"])
