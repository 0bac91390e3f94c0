"""Shapes as people write them, and the one line for what is no shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.base import BadInput
from runtimes.execution.feeds import TensorInfo
from runtimes.execution.shapes import first_shape, parse_shape, parse_shapes, shapes_of


@pytest.mark.parametrize(
    "text", ["1,3,224,224", "[1,3,224,224]", "1, 3, 224, 224", "1x3x224x224", " [ 1,3,224,224 ] ", "1,3,224,224,"]
)
def test_the_spellings_of_one_shape(text: str) -> None:
    assert parse_shape(text) == (None, (1, 3, 224, 224))
    assert parse_shape(f"x:{text}") == ("x", (1, 3, 224, 224))
    assert parse_shape(f"images:0:{text}") == ("images:0", (1, 3, 224, 224))


@given(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=6), st.text(max_size=10))
def test_every_shape_comes_back(sizes: list[int], name: str) -> None:
    name = name.strip()
    text = ",".join(map(str, sizes))
    assert parse_shape(f"{name}:[{text}]" if name else text) == (name or None, tuple(sizes))


@pytest.mark.parametrize("text", ["", "x:", "1,-3,4", "1,0,4", "a,b", "1;3", "1.5,2", "x", "9" * 30])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(BadInput, match="not a shape; write sizes"):
        parse_shape(text)


def test_shapes_are_matched_to_inputs() -> None:
    assert parse_shapes(("1,2", "b:3"), ["a", "b"]) == {"a": (1, 2), "b": (3,)}
    assert parse_shapes(None, ["a"]) == {}
    with pytest.raises(BadInput, match=r"aa: unknown input; did you mean a\?"):
        parse_shapes("aa:1", ["a"])
    with pytest.raises(BadInput, match="has a shape already"):
        parse_shapes(("1", "a:2"), ["a"])


def test_one_shape_for_a_network_with_one_input() -> None:
    assert (first_shape(None), first_shape("1,2"), first_shape(["1,2"])) == (None, "1,2", "1,2")
    with pytest.raises(BadInput, match="a second shape"):
        first_shape(["1", "2"])


@pytest.mark.parametrize(
    ("text", "batch", "declared", "sizes"),
    [
        ("3,8,9", 1, ("N", 3, "H", "W"), (1, 3, 8, 9)),
        ("x:[3,8,9]", 4, ("N", 3, "H", "W"), (4, 3, 8, 9)),
        ("2,3,8,9", 4, ("N", 3, "H", "W"), (2, 3, 8, 9)),  # as it was written
        ("3,8,9", 1, (8, 3, 8, 9), (8, 3, 8, 9)),  # the model's own batch
        ("3,8,9", 4, (8, 3, 8, 9), (4, 3, 8, 9)),  # asked for, and refused where it is fed
        ("8,9", 1, ("N", 3, "H", "W"), (8, 9)),  # fits nothing, and is refused where it is fed
    ],
)
def test_the_batch_may_be_left_out(
    text: str, batch: int, declared: tuple[int | str, ...], sizes: tuple[int, ...]
) -> None:
    assert shapes_of(text, [TensorInfo("x", "float32", declared)], batch) == {"x": sizes}
