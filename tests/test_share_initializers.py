"""exporters/passes/share_initializers.py: one of each value is left, and every name that a caller sees."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporters.graph import copy_model
from exporters.passes import share_initializers
from pass_examples import build, draw
from runtimes.session import open_session, random_feeds

X = "g (float[N,3] x) => (float[N,3] y)"


def names(model: onnx.ModelProto) -> list[str]:
    return [tensor.name for tensor in model.graph.initializer]


def run(model: onnx.ModelProto) -> onnx.ModelProto:
    before = model.SerializeToString()
    result = share_initializers.run(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result.model, full_check=True)
    sessions = [open_session(m, optimize=False) for m in (model, result.model)]
    feeds = random_feeds(sessions[0].inputs, batch=2)
    left, right = (session(feeds) for session in sessions)
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name])
    return result.model


def test_the_first_of_equals_stays() -> None:
    made = run(
        build(f"{X} {{ p = Add (x, a) q = Add (p, b) y = Add (q, c) }}", {"a": draw(3), "b": draw(3), "c": draw(3)})
    )
    assert names(made) == ["a"]
    assert [node.input[1] for node in made.graph.node] == ["a"] * 3


DIFFERENT = {
    "values": {"a": draw(3), "b": draw(3, seed=1)},
    "shape": {"a": np.ones(3, np.float32), "b": np.ones((1, 3), np.float32)},
    "sign of zero": {"a": np.zeros(3, np.float32), "b": -np.zeros(3, np.float32)},
}


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_stays(values: dict[str, np.ndarray]) -> None:
    assert names(run(build(f"{X} {{ p = Mul (x, a) y = Add (p, b) }}", values))) == ["a", "b"]


def test_equal_bytes_of_another_type_stay() -> None:
    model = build(f"{X} {{ p = Mul (x, a) i = Cast <to: int = 1> (b) y = Add (p, i) }}",
                  {"a": np.zeros(3, np.float32), "b": np.zeros(3, np.int32)})  # fmt: skip
    assert names(run(model)) == ["a", "b"]


def test_values_in_typed_fields_count_too() -> None:
    model = build(f"{X} {{ p = Mul (x, a) y = Add (p, b) }}", {"a": draw(3), "b": draw(3)})
    del model.graph.initializer[:]
    model.graph.initializer.extend(helper.make_tensor(name, 1, [3], [1.0, 2.0, 3.0]) for name in "ab")
    assert not model.graph.initializer[0].raw_data
    assert names(run(model)) == ["a"]


def test_what_a_caller_may_override_stays() -> None:
    model = build(f"{X} {{ p = Mul (x, a) y = Add (p, b) }}", {"a": draw(3), "b": draw(3)})
    for name in "ab":
        other = copy_model(model)
        other.graph.input.append(helper.make_tensor_value_info(name, 1, [3]))
        assert names(run(other)) == ["a", "b"]


def test_an_output_keeps_its_name() -> None:
    text = "g (float[N,3] x) => (float[N,3] y, float[3] b) { p = Mul (x, a) y = Add (p, b) }"
    model = build(text, {"a": draw(3), "b": draw(3)})
    assert names(run(model)) == ["a", "b"]
    model.graph.output[1].name = "a"
    assert names(run(model)) == ["a"], "the output itself may be read by others"


def test_what_a_body_reads_by_name_stays() -> None:
    text = f"""{X} {{ p = Mul (x, a) k = Constant <value = bool {{1}}> ()
        y = If (k) <then_branch = t () => (float[N,3] u) {{ u = Add (p, b) }},
                    else_branch = e () => (float[N,3] v) {{ v = Sub (p, b) }}> }}"""
    model = build(text, {"a": draw(3), "b": draw(3)})
    assert names(run(model)) == ["a", "b"]
    assert not share_initializers.run(model).modified


def test_pairs_of_equal_bytes_in_two_shapes_or_types_stay_apart() -> None:
    shapes = {"a": (3,), "b": (3,), "c": (1, 3), "d": (1, 3)}
    body = "t = Add (x, a) u = Add (t, b) v = Add (u, c) y = Add (v, d)"
    made = run(build(f"{X} {{ {body} }}", {name: np.ones(shape, np.float32) for name, shape in shapes.items()}))
    assert names(made) == ["a", "c"]
    types = {"a": np.float32, "b": np.float32, "c": np.int32, "d": np.int32}
    casts = "i = Cast <to: int = 1> (c) j = Cast <to: int = 1> (d)"
    body = f"{casts} t = Add (x, a) u = Add (t, b) v = Add (u, i) y = Add (v, j)"
    made = run(build(f"{X} {{ {body} }}", {name: np.zeros(3, kind) for name, kind in types.items()}))
    assert names(made) == ["a", "c"]


def test_a_hundred_of_them() -> None:
    body = "".join(f"t{i + 1} = Add (t{i}, w{i}) " for i in range(100))
    text = "g (float[N,3] x) => (float[N,3] y) { t0 = Identity (x) " + body + "y = Identity (t100) }"
    made = run(build(text, {f"w{i}": np.float32([i // 50] * 3) for i in range(100)}))
    assert names(made) == ["w0", "w50"]
    assert numpy_helper.to_array(made.graph.initializer[1]).tolist() == [1, 1, 1]
