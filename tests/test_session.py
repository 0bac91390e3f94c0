"""Sessions run what was asked where it was asked, or say in one line why not. Oracle for results: onnx.reference."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from runtimes import machine, session
from runtimes.base import BadInput
from runtimes.device.process import explain
from runtimes.session import TensorInfo, open_session, random_feeds, refusal
from small_nets import conv_net

CNN = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 2, H, 6] x, float[2] s) => (float[N, 3, P, Q] y, float[N, 3, P, Q] r)
<float[3, 2, 3, 3] w> {
    y = Conv <pads = [1, 1, 1, 1]> (x, w)
    r = Relu(y)
}"""


def cnn() -> onnx.ModelProto:
    model = parser.parse_model(CNN)
    weights = np.random.default_rng(1).standard_normal((3, 2, 3, 3)).astype(np.float32)
    del model.graph.initializer[:]
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return model


def feeds(batch: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {"x": rng.standard_normal((batch, 2, 5, 6)).astype(np.float32), "s": np.ones(2, np.float32)}


class Huge:
    """A model that protobuf does not write."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def SerializeToString(self) -> bytes:
        raise self.error


def test_a_model_beyond_protobufs_limit_is_told_in_one_line() -> None:
    beyond = EncodeError("Failed to serialize proto")  # no ValueError, as it was once
    with pytest.raises(BadInput, match=r"^model: larger than 2 GiB"):
        open_session(Huge(beyond))
    with pytest.raises(MemoryError):
        open_session(Huge(MemoryError()))
    assert explain(beyond)[0] == 2
    assert "larger than 2 GiB" in explain(beyond)[1]


def external(folder: Path, location: str = "m.onnx.data") -> tuple[onnx.ModelProto, bytes]:
    """The model with its weights moved to a file next to it."""
    model = cnn()
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    model = onnx.load(folder / "m.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = location if entry.key == "location" else entry.value
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return model, (folder / "m.onnx.data").read_bytes()


@pytest.mark.parametrize("form", ["proto", "bytes", "str", "path"])
@pytest.mark.parametrize("optimize", [True, False])
def test_results_equal_the_reference_evaluator(tmp_path: Path, form: str, optimize: bool) -> None:
    model = cnn()
    onnx.save(model, tmp_path / "m.onnx")
    given = {"proto": model, "bytes": model.SerializeToString(), "str": str(tmp_path / "m.onnx")}
    opened = open_session(given.get(form, tmp_path / "m.onnx"), threads=1, optimize=optimize)
    got = opened(feeds())
    want = dict(zip(["y", "r"], ReferenceEvaluator(model).run(None, feeds()), strict=True))
    assert list(got) == ["y", "r"]
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=0, atol=1e-5)  # 18 products of size 1: 18 x 2**-24 x few
    assert opened.size_bytes == len(model.SerializeToString())


def test_a_session_describes_itself() -> None:
    opened = open_session(cnn(), threads=1)
    assert opened.inputs == (TensorInfo("x", "float32", ("N", 2, "H", 6)), TensorInfo("s", "float32", (2,)))
    assert [(o.name, o.dtype) for o in opened.outputs] == [("y", "float32"), ("r", "float32")]
    assert (opened.provider, opened.threads) == ("cpu", 1)
    assert opened.raw.get_providers() == ["CPUExecutionProvider"]


def test_types_have_numpy_names() -> None:
    kinds = {"float16": "float16", "double": "float64", "uint8": "uint8", "int64": "int64", "bool": "bool"}
    values = ", ".join(f"{kind}[N] {kind}_in" for kind in kinds)
    outs = ", ".join(f"{kind}[N] {kind}_out" for kind in kinds)
    body = " ".join(f"{kind}_out = Identity({kind}_in)" for kind in kinds)
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({values}) => ({outs}) {{ {body} }}'
    opened = open_session(parser.parse_model(text), threads=1)
    assert [info.dtype for info in opened.inputs] == list(kinds.values())
    assert {v.dtype.name for v in opened(random_feeds(opened.inputs, 3)).values()} == set(kinds.values())


def test_threads_default_to_what_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "default_threads", lambda: 3)
    opened = open_session(cnn())
    assert opened.threads == 3
    assert opened.raw.get_session_options().intra_op_num_threads == 3


@pytest.mark.parametrize(("threads", "spinning"), [(1, None), (2, "0")])
def test_spinning_is_off_with_more_than_one_thread(threads: int, spinning: str | None) -> None:
    options = open_session(cnn(), threads=threads).raw.get_session_options()
    try:
        found = options.get_session_config_entry("session.intra_op.allow_spinning")
    except Exception:  # never set
        found = None
    assert found == spinning


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_is_bad_usage(threads: int) -> None:
    with pytest.raises(BadInput, match=f"threads {threads}: at least 1"):
        open_session(cnn(), threads=threads)


def test_an_unknown_provider_answers_with_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"cudo: unknown provider; did you mean cuda"):
        open_session(cnn(), "cudo")


BAD_FEEDS = {  # what a user does wrong: what must be said
    "missing": (lambda f: {"x": f["x"]}, r"input s is missing; it wants float32 \[2\]"),
    "extra": (lambda f: {**f, "xx": f["x"]}, "xx: unknown input; did you mean x"),
    "dtype": (
        lambda f: {**f, "x": f["x"].astype(np.float64)},
        r"x wants float32 \[N, 2, H, 6\], got float64 \[2, 2, 5, 6\]",
    ),
    "rank": (lambda f: {**f, "x": f["x"][0]}, r"x wants .* got float32 \[2, 5, 6\]"),
    "size": (lambda f: {**f, "x": f["x"][..., :5]}, r"x wants .* got float32 \[2, 2, 5, 5\]"),
    "list": (lambda f: {**f, "s": [1.0, 1.0]}, "s wants .* got a list"),
    "none": (lambda f: {**f, "s": None}, "s wants .* got a NoneType"),
    "swapped": (lambda f: {**f, "x": f["x"].astype(">f4" if sys.byteorder == "little" else "<f4")}, "byte-swapped"),
    "nothing": (lambda f: {}, "input x is missing"),
}


@pytest.mark.parametrize("case", BAD_FEEDS)
def test_a_wrong_feed_is_named(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, message = BAD_FEEDS[case]
    opened = open_session(cnn(), threads=1)
    with pytest.raises(BadInput, match=message):
        opened(spoil(feeds()))
    assert capfd.readouterr() == ("", "")


def test_a_strided_array_gives_the_same_answer() -> None:
    opened = open_session(cnn(), threads=1)
    plain = feeds()
    strided = {**plain, "x": np.asfortranarray(plain["x"])}
    np.testing.assert_array_equal(opened(plain)["y"], opened(strided)["y"])


def test_a_model_that_fails_while_running_says_so_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] a, float[M] b) => (float[K] c) { c = Add(a, b) }'
    opened = open_session(parser.parse_model(text), threads=1)
    with pytest.raises(BadInput, match=r"^model: ONNX Runtime cannot run it \(Add: .*2 by 3\); ") as caught:
        opened({"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)})
    assert len(str(caught.value)) < 300
    assert capfd.readouterr() == ("", "")


BAD_MODELS = {
    "empty": b"",
    "garbage": b"garbage" * 20,
    "truncated": cnn().SerializeToString()[:60],
    "no such op": parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] a) => (float[N] b) { b = NoSuchOperator(a) }'
    ).SerializeToString(),
    "cycle": parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] a) => (float[N] b) { c = Add(a, b) b = Relu(c) }'
    ).SerializeToString(),
    "opset of the future": parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 999]> g (float[N] a) => (float[N] b) { b = Relu(a) }'
    ).SerializeToString(),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_what_cannot_be_loaded_is_one_line_and_silent(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(BAD_MODELS[case])
    for given, subject in ((BAD_MODELS[case], "model"), (path, str(path))):
        with pytest.raises(BadInput) as caught:
            open_session(given, threads=1)
        text = str(caught.value)
        assert text.startswith(subject + ": ")
        assert len(text) < 300
        assert "\n" not in text
        assert "onnxruntime_src" not in text
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux file names are free bytes")
@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Load model failed: model.cc:149 Unsupported model IR version: 10, max supported IR version: 9",
            "is of IR version 10, onnxruntime 1.17.3 knows up to 9; install a newer one or `edgecnn simplify "
            "--target ort==1.17`",
        ),
        (
            "ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions. "
            "Opset 22 is under development and support for this is limited. The operator schemas and or other "
            "functionality may change before next ONNX release. Current official support for domain ai.onnx is till "
            "opset 20.",
            "is of opset 22, onnxruntime 1.17.3 knows up to 20; install a newer one or `edgecnn simplify",
        ),
        (
            "Fatal error: com.acme:MyOp(-1) is not a registered function/op",
            "operator com.acme:MyOp is not in onnxruntime",
        ),
        (
            "NOT_IMPLEMENTED : Could not find an implementation for Conv(11) node",
            "onnxruntime 1.17.3 has no Conv of this opset or these types: use float32, opset 7 or later",
        ),
        ("Protobuf parsing failed.", "ONNX Runtime cannot load it (short); export or download it again"),
    ],
)
def test_a_refusal_says_what_to_do(said: str, told: str) -> None:
    assert refusal(said, "short", "1.17.3").startswith(told)


def test_an_operator_of_nobody_is_named() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18, "com.acme" : 1]>
        g (float[4] x) => (float[4] y) { y = com.acme.MyOp (x) }"""
    with pytest.raises(BadInput, match=r"^model: operator com.acme:MyOp is not in onnxruntime [\d.]+; export it with"):
        open_session(onnx.parser.parse_model(text))


def test_a_file_name_that_is_not_utf8_works(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.onnx"))
    path.write_bytes(cnn().SerializeToString())
    assert open_session(path, threads=1).inputs[0].name == "x"
    path.write_bytes(b"garbage")
    with pytest.raises(BadInput, match=r"m\\udcff.onnx: "):
        open_session(path, threads=1)
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff"))
    folder.mkdir()
    (folder / "m.onnx").write_bytes(cnn().SerializeToString())
    assert open_session(folder / "m.onnx", threads=1).inputs[0].name == "x"


def test_external_data_next_to_the_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = external(tmp_path)
    opened = open_session(tmp_path / "m.onnx", threads=1)
    np.testing.assert_array_equal(opened(feeds())["y"], open_session(cnn(), threads=1)(feeds())["y"])
    assert opened.size_bytes == (tmp_path / "m.onnx").stat().st_size + len(data)
    monkeypatch.chdir(tmp_path)
    assert open_session("m.onnx", threads=1).inputs[0].name == "x"  # a bare name has a folder too


def test_external_data_can_come_from_memory(tmp_path: Path) -> None:
    model, data = external(tmp_path)
    opened = open_session(model, threads=1, external={"m.onnx.data": data})
    np.testing.assert_array_equal(opened(feeds())["y"], open_session(cnn(), threads=1)(feeds())["y"])
    with pytest.raises(BadInput, match="out of bounds"):
        open_session(model, threads=1, external={"m.onnx.data": data[:-4]})


def test_a_model_from_memory_reads_no_file_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = external(tmp_path)
    monkeypatch.chdir(tmp_path)
    for given in (None, {"other.data": data}):
        with pytest.raises(BadInput, match="cannot load"):
            open_session(model, threads=1, external=given)


@pytest.mark.parametrize("how", ["parent", "absolute", "link"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, how: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    location = {"parent": "../secret", "absolute": str(tmp_path / "secret"), "link": "link"}[how]
    _, data = external(inner, location)
    (tmp_path / "secret").write_bytes(data)
    (inner / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="cannot load"):
        open_session(inner / "m.onnx", threads=1)


def test_a_file_beyond_protobufs_limit_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as stream:
        stream.truncate(2**31)  # sparse: takes no room
    with pytest.raises(BadInput, match="has 2,147,483,648 bytes, the limit is 2,147,483,647"):
        open_session(tmp_path / "m.onnx", threads=1)


def test_graphs_are_optimized_unless_told_otherwise() -> None:
    levels = [open_session(cnn(), threads=1, **o).raw.get_session_options() for o in ({}, {"optimize": False})]
    assert [str(o.graph_optimization_level).split(".")[-1] for o in levels] == ["ORT_ENABLE_ALL", "ORT_DISABLE_ALL"]


def test_the_model_bytes_are_not_kept() -> None:
    assert open_session(cnn(), threads=1).raw._model_bytes == b""


def test_no_fall_back_while_running(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_session(cnn(), threads=1).raw._enable_fallback is False


def test_random_feeds_are_seeded_and_standard_normal() -> None:
    inputs = (TensorInfo("x", "float32", ("N", 3, 32, 32)),)
    one, two, other = (random_feeds(inputs, 8, seed)["x"] for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert one.shape == (8, 3, 32, 32)
    assert abs(one.mean()) < 0.05  # 24,576 samples: 7 standard errors
    assert abs(one.std() - 1) < 0.05


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 0, 255), ("int8", -128, 127), ("int64", 0, 1), ("int32", 0, 1), ("bool", 0, 1)],
)
def test_random_integers_cover_their_range(dtype: str, low: int, high: int) -> None:
    values = random_feeds((TensorInfo("x", dtype, (10000,)),))["x"]
    assert values.dtype.name == dtype
    assert (int(values.min()), int(values.max())) == (low, high)


def test_random_feeds_take_open_dimensions_from_sizes() -> None:
    inputs = (TensorInfo("x", "float32", ("N", 3, None, "W")), TensorInfo("s", "float32", ()))
    got = random_feeds(inputs, sizes={"x": (2, 3, 8, 9)})
    assert {name: value.shape for name, value in got.items()} == {"x": (2, 3, 8, 9), "s": ()}


@pytest.mark.parametrize(
    ("info", "options", "message"),
    [
        (TensorInfo("x", "float32", ("N", 3, "H", "W")), {}, r"\[N, 3, H, W\] is open; fix it with --input-shape x:"),
        (
            TensorInfo("x", "float32", ("N", 3)),
            {"sizes": {"x": (1, 4)}},
            r"wants float32 \[N, 3\], .* given is \[1, 4\]",
        ),
        (TensorInfo("x", "float32", ("N", 3)), {"sizes": {"x": (0, 3)}}, "given is"),
        (TensorInfo("x", "float32", ("N", 3)), {"sizes": {"x": (3,)}}, "given is"),
        (TensorInfo("x", "float32", ("N", 3)), {"sizes": {"y": (1, 3)}}, "y: unknown input"),
        (TensorInfo("x", "float32", (1, 3)), {"batch": 4}, "batch is fixed to 1, not 4"),
        (
            TensorInfo("x", "float32", ("N", 2**20)),
            {"batch": 2**20},
            "inputs: 4,194,304 MiB asked for, the limit is 1,024",
        ),
        (TensorInfo("x", "string", ("N",)), {}, "no random values for type string"),
        (TensorInfo("x", "seq(tensor(float))", ()), {}, "no random values"),
        (TensorInfo("x", "bfloat16", ("N",)), {}, "no random values"),
    ],
)
def test_random_feeds_refuse_with_the_cause(info: TensorInfo, options: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        random_feeds((info,), **options)


def test_the_overhead_over_onnxruntime_is_small() -> None:
    """Nothing is validated while all is well: on the good path `complaint` is not called."""
    opened = open_session(cnn(), threads=1)
    original, session.complaint = session.complaint, lambda *_: pytest.fail("validated a good feed")
    try:
        opened(feeds())
    finally:
        session.complaint = original


@pytest.mark.skipif(sys.platform == "win32", reason="file descriptors")
def test_nothing_is_printed_by_a_failing_child() -> None:
    code = "from runtimes.session import open_session\ntry:\n    open_session(b'bad')\nexcept Exception:\n    pass\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_prepared_run_gives_what_the_session_gives() -> None:
    session = open_session(conv_net(), threads=1)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)}
    run = session.prepare(feeds)
    expected = session(dict(feeds))["y"]
    feeds.clear()  # what was prepared stays
    (made,) = run()
    assert np.array_equal(made, expected)


def test_feeds_are_checked_when_they_are_prepared() -> None:
    with pytest.raises(BadInput, match="input x is missing"):
        open_session(conv_net(), threads=1).prepare({})


@pytest.mark.parametrize(
    ("shape", "spelled"),
    [
        (("N", 3, "H", "W"), "x:N,C,H,W"),
        ((None, None, None, 3), "x:N,H,W,C"),
        ((1, "H", "W", 1), "x:N,H,W,C"),
        ((None, None, None, None), "x:N,C,H,W"),
        (("N", 8, "T"), "x:N,C,L"),
        (("N", 3, "H", "W", "H"), "x:N,C,D,H,W"),
        (("N", "K"), "x:N,C"),
        (("N", 1, "a", "b", "c", "d"), "x:SIZES"),
    ],
)
def test_an_open_size_is_asked_for_in_the_order_of_its_axes(shape: tuple[int | str | None, ...], spelled: str) -> None:
    with pytest.raises(BadInput, match=rf"is open; fix it with --input-shape {spelled}$"):
        random_feeds((TensorInfo("x", "float32", shape),))


def test_an_ir_version_alone_does_not_keep_a_model_from_running() -> None:
    """onnx writes its newest by default; what ONNX Runtime does not know of it would be named."""
    made = parser.parse_model(
        '<ir_version: 14, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }'
    )
    assert open_session(made)({"x": np.array([-1, 1], np.float32)})["y"].tolist() == [0, 1]
    made.opset_import[0].version = 99
    with pytest.raises(BadInput, match="opset 99"):
        open_session(made)
    made.ir_version = 9999
    with pytest.raises(BadInput, match="is of IR version 9999"):
        open_session(made)
