"""exporters/rebatch.py: a model for four images takes another number, with the same answers, or is refused.

The oracle is ONNX Runtime on the given file, four images at a time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn.cli import main
from edgecnn.single import simplify
from exporters.rebatch import another_batch, images_for, in_batches, joined, rebatched
from runtimes.base import Array, BadInput, Tensors
from runtimes.session import open_session
from small_nets import model, save

HEAD = '<ir_version: 9, opset_import: ["" : 18]> g '
RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.standard_normal((4, 2, 3, 3), np.float32), "flat": np.array([4, -1]), "cut": np.array([4, 2, 32]),
    "rows": np.array([32, 16]), "back": np.array([4, 8, 16]), "image": np.array([4, 4, 8, 4]),
    "v": RNG.standard_normal((128, 4), np.float32), "m": RNG.standard_normal((16, 16), np.float32),
    "sizes": np.array([4, 4, 8, 8]), "token": RNG.standard_normal((1, 1, 16), np.float32), "one": np.array([4, 1, 16]),
    "rest": np.array([-1, 4]), "last": np.array([2, 4, 16]), "first": np.array([8, 8, 4]), "keep": np.array([0, -1]),
    "heads": np.array([4, 4, 4, 4]), "four": RNG.standard_normal((4, 4, 8, 4), np.float32),
}  # fmt: skip
CAN = {
    "only convolutions": "(float[4,2,8,4] x) => (float[4,4,8,4] y) { y = Conv <pads = [1,1,1,1]> (x, w) }",
    "a reshape to rows": """(float[4,2,8,4] x) => (float[4,4] y) {
        c = Conv <pads = [1,1,1,1]> (x, w) f = Reshape (c, flat) y = MatMul (f, v) }""",
    "the target is a node": """(float[4,2,8,4] x) => (float[4,4] y) { t = Constant <value_ints = [4, -1]> ()
        c = Conv <pads = [1,1,1,1]> (x, w) f = Reshape (c, t) y = MatMul (f, v) }""",
    "one target for two": """(float[4,2,8,4] x) => (float[4,128] y, float[4,64] z) {
        c = Conv <pads = [1,1,1,1]> (x, w) y = Reshape (c, flat) z = Reshape (x, flat) }""",
    "batch and time in one axis": """(float[4,8,16] x) => (float[4,8,16] y) {
        r = Reshape (x, rows) d = MatMul (r, m) y = Reshape (d, back) }""",
    "batch in the second axis": """(float[4,2,16] x) => (float[4,2,16] y) { t = Transpose <perm = [1,0,2]> (x)
        r = Relu (t) s = Reshape (r, last) y = Transpose <perm = [1,0,2]> (s) }""",
    "resized to sizes": """(float[4,4,4,4] x) => (float[4,4,8,8] y) {
        y = Resize <mode = "nearest"> (x, , , sizes) }""",
    "a token for each": """(float[4,7,16] x) => (float[4,8,16] y) {
        t = Expand (token, one) y = Concat <axis = 1> (t, x) }""",
    "sizes that are computed": "(float[4,2,8,4] x) => (float[4,64] y) { y = Reshape (x, keep) }",
    "four channels are no batch": """(float[4,64] x) => (float[4,4,4,4] y) { y = Reshape (x, heads) }""",
    "as many features as images": """(float[4,8] x) => (float[4,8] y) {
        r = Reshape (x, rest) s = Softmax <axis = -1> (r) y = Reshape (s, flat) }""",
    "a weight of that shape": """(float[4,4,8,4] x) => (float[4,4,8,4] y) {
        a = Reshape (m, first) b = ReduceMean <keepdims = 0> (a) y = Mul (x, b) }""",
}  # fmt: skip


def net(body: str) -> onnx.ModelProto:
    used = {name: value for name, value in WEIGHTS.items() if name in body.replace("(", " ").replace(",", " ").split()}
    used |= {name: value for name, value in WEIGHTS.items() if f" {name})" in body or f"({name}," in body}
    return model(HEAD + body, **used)


def feeds(made: onnx.ModelProto) -> dict[str, Array]:
    (value,) = made.graph.input
    sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return {value.name: RNG.standard_normal(sizes, np.float32)}


@pytest.mark.parametrize("batch", [1, 3, 6, 8])
@pytest.mark.parametrize("body", CAN.values(), ids=CAN)
def test_each_image_gets_its_own_answer(body: str, batch: int) -> None:
    given = net(body)
    before = given.SerializeToString()
    made = rebatched(given, 4, batch)
    onnx.checker.check_model(made, full_check=True)
    assert given.SerializeToString() == before
    session, images = open_session(made, optimize=False), images_for(4, batch)
    assert all(info.shape[0] == batch for info in (*session.inputs, *session.outputs))
    many = joined([feeds(given) for _ in range(images // 4)], {"x"})
    truth = in_batches(open_session(given, optimize=False), 4, images, {"x"})(many)
    found = in_batches(session, batch, images, {"x"}, mixed=True)(many)
    assert truth.keys() == found.keys()
    for name, value in truth.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)  # sums in another order


CANNOT = {
    "a constant for each image": ("""(float[4,4,8,4] x) => (float[4,4,8,4] y) {
        c = Concat <axis = 1> (x, four) y = Slice (c, s, e, a) }""", "with 1 it fails"),
    "added to each image": ("(float[4,4,8,4] x) => (float[4,4,8,4] y) { y = Add (x, four) }",
                            "an image's answer in a batch of 1 is not"),
    "an output for all": ("(float[4,16] x) => (float[16] y) { y = ReduceMean <keepdims = 0> (x, axes) }",
                          "output y has no row for each of 4 images"),
}  # fmt: skip


def test_mixed_images_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = "(float[4,16] x) => (float[4,16] y) { m = ReduceMean (x, axes) y = Sub (x, m) }"
    path = save(model(HEAD + body, axes=np.array([0])), tmp_path / "mean.onnx")
    assert main(["simplify", str(path), "-o", str(tmp_path / "o.onnx"), "--input-shape", "1,16"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "mean.onnx: an image's answer in a batch of 1 is not its answer in one of 4: it depends on its place there"
        in line
    )
    assert "export it with that batch, or an open one" in line
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize(("body", "why"), CANNOT.values(), ids=CANNOT)
def test_what_cannot_be_changed_says_why(body: str, why: str, tmp_path: Path) -> None:
    more = {"axes": np.array([0]), "s": np.array([0]), "e": np.array([4]), "a": np.array([1])}
    weights = {name: value for name, value in {**more, "four": WEIGHTS["four"]}.items() if f"{name})" in body
               or f" {name}," in body}  # fmt: skip
    path = save(model(HEAD + body, **weights), tmp_path / "net.onnx")
    shape = "1,16" if "16] x" in body else "1,4,8,4"
    with pytest.raises(BadInput, match=rf"net\.onnx: .*{why}.*export it with that batch, or an open one"):
        simplify(path, tmp_path / "o.onnx", input_shape=shape)
    assert not (tmp_path / "o.onnx").exists()


def test_the_command_writes_another_batch_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(net(CAN["a reshape to rows"]), tmp_path / "net.onnx")
    report = simplify(path, tmp_path / "one.onnx", input_shape="1,2,8,4")
    assert (report.batch, report.images) == ((4, 1), 12)
    assert main(["simplify", str(path), "-o", str(tmp_path / "two.onnx"), "--input-shape", "x:2,2,8,4"]) == 0
    assert "; takes 2 at a time instead of 4, with the same answers." in capsys.readouterr().out
    for name, batch in (("one", 1), ("two", 2)):
        assert open_session(tmp_path / f"{name}.onnx").inputs[0].shape == (batch, 2, 8, 4)
    assert simplify(path, tmp_path / "four.onnx", input_shape="4,2,8,4").batch is None
    assert simplify(path, tmp_path / "own.onnx", input_shape="2,8,4").batch is None, "no batch was given"


def test_a_wrong_guess_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof, and not the guess, decides: here the weights are others."""
    from exporters import rebatch

    wrong = net(CAN["only convolutions"])
    for value in (*wrong.graph.input, *wrong.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    wrong.graph.initializer[0].raw_data = np.ones((4, 2, 3, 3), np.float32).tobytes()
    monkeypatch.setattr(rebatch, "rebatched", lambda *_: wrong)
    path = save(net(CAN["only convolutions"]), tmp_path / "net.onnx")
    with pytest.raises(BadInput, match="an image's answer in a batch of 1 is not"):
        simplify(path, tmp_path / "o.onnx", input_shape="1,2,8,4")


SHAPES = {
    "another batch": ({"x": (1, 2, 8, 4)}, (4, 1)),
    "the same": ({"x": (4, 2, 8, 4)}, None),
    "another height too": ({"x": (1, 2, 9, 4)}, None),
    "another rank": ({"x": (1, 2, 8)}, None),
    "nothing": ({}, None),
    "no images": ({"x": (0, 2, 8, 4)}, None),
}


@pytest.mark.parametrize(("shapes", "batches"), SHAPES.values(), ids=SHAPES)
def test_what_another_batch_is(shapes: dict[str, tuple[int, ...]], batches: tuple[int, int] | None) -> None:
    assert another_batch(net(CAN["only convolutions"]), shapes) == batches


def test_an_open_batch_is_no_other() -> None:
    made = net(CAN["only convolutions"])
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    assert another_batch(made, {"x": (1, 2, 8, 4)}) is None


def test_inputs_that_do_not_agree_are_no_other_batch() -> None:
    two = model(HEAD + "(float[4,2] x, float[4,2] z) => (float[4,2] y) { y = Add (x, z) }")
    assert another_batch(two, {"x": (1, 2), "z": (2, 2)}) is None
    assert another_batch(two, {"x": (1, 2)}) == (4, 1)
    made = open_session(rebatched(two, 4, 1))
    assert [info.shape for info in made.inputs] == [(1, 2), (1, 2)], "the other input takes as many"


def test_what_belongs_to_no_image_is_fed_whole() -> None:
    asked: list[Tensors] = []

    def session(feeds: Tensors) -> Tensors:
        asked.append(feeds)
        return {"y": feeds["x"]}

    x, scale = np.arange(8, dtype=np.float32)[:, None], np.ones(8, np.float32)
    many = joined([{"x": x[:4], "s": scale}, {"x": x[4:], "s": scale}], {"x"})
    assert many["s"] is scale
    np.testing.assert_array_equal(in_batches(session, 3, 8, {"x"})(many)["y"], x)
    assert [feeds["x"].ravel().tolist() for feeds in asked] == [[0, 1, 2], [3, 4, 5], [6, 7, 0]]
    assert all(feeds["s"] is scale for feeds in asked)


@pytest.mark.parametrize(("images", "batch"), [(8, 8), (8, 6), (4, 2), (4, 1), (6, 3), (3, 2)])
def test_images_meet_others_elsewhere_and_answers_go_back_to_their_own(images: int, batch: int) -> None:
    asked: list[list[float]] = []

    def session(feeds: Tensors) -> Tensors:
        asked.append(feeds["x"].ravel().tolist())
        return {"y": feeds["x"] * 2}

    x = np.arange(images, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(in_batches(session, batch, images, {"x"}, mixed=True)({"x": x})["y"], x * 2)
    assert all(len(rows) == len(set(rows)) == batch for rows in asked), "no image twice in one call"
    assert batch in (1, images) or sorted(asked[0]) != list(range(batch))


MIXED = {
    "divided by the largest of all": ("a = ReduceMax (x) y = Div (x, a)", {}),
    "statistics of the batch": ("y, n, o = BatchNormalization <training_mode = 1> (x, s, b, m, v)",
        {n: np.ones(4, np.float32) for n in "sbmv"}),
    "a constant in its second row": ("""a = Shape (x) z = ConstantOfShape <value = float[1] {1.0}> (a)
        f = Slice (z, first, one, axis) r = Slice (x, one, end, axis) g = Slice (x, first, one, axis)
        h = Slice (r, one, end, axis) k = Add (g, f) y = Concat <axis = 0> (k, r)""",
        {"first": np.array([0]), "one": np.array([1]), "end": np.array([99]), "axis": np.array([0])}),
    "pairs": ("""a = Reshape (x, pairs) n = ReduceMean <keepdims = 1> (a, one) d = Sub (a, n) s = Shape (x)
        y = Reshape (d, s)""", {"pairs": np.array([-1, 2, 4]), "one": np.array([1])}),
}  # fmt: skip
"""Each computes an image's answer from its neighbours or its place."""


@pytest.mark.parametrize(("old", "new"), [(1, 8), (4, 8), (4, 6), (8, 4), (2, 4)])
@pytest.mark.parametrize(("body", "weights"), MIXED.values(), ids=MIXED)
def test_images_that_mix_are_refused_in_a_larger_batch_too(
    body: str, weights: dict[str, Array], old: int, new: int, tmp_path: Path
) -> None:
    if "pairs" in weights and old == 1:
        pytest.skip("one image is no pair")
    net = model(f"{HEAD}(float[{old},4] x) => (float[{old},4] y) {{ {body} }}", **weights)
    path = save(net, tmp_path / "net.onnx")
    with pytest.raises(BadInput, match=r"an image's answer in a batch|it fails"):
        simplify(path, tmp_path / "o.onnx", input_shape=f"{new},4")
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize(("old", "new"), [(1, 8), (4, 8), (4, 6), (8, 3), (3, 2)])
def test_images_that_do_not_mix_pass_in_any_batch(old: int, new: int, tmp_path: Path) -> None:
    body = f"(float[{old},16] x, float[16] s) => (float[{old},4] y) {{ a = Mul (x, s) y = MatMul (a, w) }}"
    path = save(model(HEAD + body, w=RNG.standard_normal((16, 4), np.float32)), tmp_path / "net.onnx")
    report = simplify(path, tmp_path / "o.onnx", input_shape=f"x:{new},16")
    assert (report.batch, report.images) == ((old, new), 3 * images_for(old, new))
