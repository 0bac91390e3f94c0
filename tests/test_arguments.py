"""Every call refuses what is out of range in one line that names the argument, as the command line does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from edgecnn import api
from edgecnn.arguments import FILES, range_of, settled
from edgecnn.cli._click import group
from edgecnn.data.labels import read_labels
from edgecnn.data.pixels import read_preprocess, says_layout

NAN = float("nan")
NUMBERS = [
    (call, name)
    for call in api.HOMES
    for name in inspect.signature(getattr(api, call)).parameters
    if range_of(name, call) is not None
]


def needed(call: str) -> dict[str, str]:
    """A name that no file has for each argument without a default: a call that got so far would say so instead."""
    parameters = inspect.signature(getattr(api, call)).parameters.values()
    return {p.name: "none.edge" for p in parameters if p.default is p.empty}


def odd_values(call: str, name: str) -> list[Any]:
    allowed = range_of(name, call)
    assert allowed is not None
    low = [] if allowed.low is None else [allowed.low - 1, *([allowed.low] if allowed.above else [])]
    high = [] if allowed.high is None else [allowed.high + 1, *([allowed.high] if allowed.below else [])]
    return [*low, *high, NAN, float("inf"), "2", [], True, {}, *([1.5, np.float32(2)] if allowed.whole else [])]


@pytest.mark.parametrize(("call", "name"), NUMBERS)
def test_out_of_range_is_told_by_name(call: str, name: str) -> None:
    parameter = inspect.signature(getattr(api, call)).parameters[name]
    nothing = [] if parameter.default is None or "None" in str(parameter.annotation) else [None]
    for value in [*odd_values(call, name), *nothing]:
        with pytest.raises(api.BadInput, match=f"^{name} {re.escape(repr(value))}: must be a ") as caught:
            getattr(api, call)(**{**needed(call), name: value})
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["batch", "threads"])
@pytest.mark.parametrize("value", [[1, 0], (1, 2.0), ["2"]])
def test_every_number_of_a_list_is_looked_at(name: str, value: Any) -> None:
    with pytest.raises(api.BadInput, match=f"^{name} {re.escape(repr(value[-1]))}: must be a whole number of 1 "):
        api.bench("none.onnx", **{name: value})


@pytest.mark.parametrize("value", [None, 3, ["cpu"], []])
def test_a_provider_is_a_text(value: Any) -> None:
    for call in ("run", "half", "check", "settle"):
        with pytest.raises(api.BadInput, match=r"^provider .*: must be a text"):
            getattr(api, call)(**{**needed(call), "provider": value})


def test_the_command_line_holds_the_same_ranges() -> None:
    context = click.Context(group)
    for call, name in NUMBERS:
        command = group.get_command(context, call)
        for option in command.params if command is not None else []:
            allowed, kind = range_of(name, call), getattr(option.type, "each", option.type)
            if option.name == name and isinstance(kind, click.IntRange | click.FloatRange):
                assert allowed is not None
                assert (kind.min, kind.max, kind.min_open, kind.max_open) == (
                    allowed.low, allowed.high, allowed.above, allowed.below,
                ), (call, name)  # fmt: skip
                assert isinstance(kind, click.IntRange) == allowed.whole


def taken(call: str, **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = settled(getattr(api, call).__wrapped__, call, (), {**needed(call), **given}).arguments
    return found


def test_numbers_of_numpy_become_numbers_of_python() -> None:
    found = taken("bench", batch=np.int64(2), threads=[np.int32(1), 2], tolerance=np.float32(0.5), seed=np.uint8(3),
                  baseline="b.json")  # fmt: skip
    assert repr([found[name] for name in ("batch", "threads", "tolerance", "seed")]) == "[2, (1, 2), 0.5, 3]"
    assert taken("half", limit=None, seed=0)["limit"] is None
    assert taken("quantize", limit=None)["limit"] is None
    assert taken("evaluate", min_metric=-0.5)["min_metric"] == -0.5


SHAPED = [call for call in api.HOMES if "input_shape" in inspect.signature(getattr(api, call)).parameters]


@pytest.mark.parametrize("call", SHAPED)
def test_a_shape_may_be_numbers(call: str) -> None:
    for shape in [(3, 16, 16), [3, 16, 16], np.array([3, 16, 16]), "3,16,16"]:
        assert taken(call, input_shape=shape)["input_shape"] == "3,16,16"
    assert taken(call, input_shape={"x": (3, 16, 16)})["input_shape"] in ("x:3,16,16", ["x:3,16,16"])
    assert taken(call, input_shape=None)["input_shape"] is None
    for odd in (3, {"x": 3}, 2.5):
        with pytest.raises(api.BadInput, match=r"^input_shape .*: is no shape; give sizes as \(3, 224, 224\)"):
            getattr(api, call)(**{**needed(call), "input_shape": odd})


def test_pixels_may_be_a_path_or_values() -> None:
    assert taken("check", preprocess=Path("pp.json"))["preprocess"] == "pp.json"
    values = taken("check", preprocess={"mean": [0.25], "std": (0.5,)})["preprocess"]
    made = read_preprocess(values, (1, 8, 8))
    assert (made.mean, made.std, says_layout(values)) == ((0.25,), (0.5,), False)
    for odd in (3, ["unit"], {"mean": np.zeros(1)}):
        with pytest.raises(api.BadInput, match=r"^preprocess .*: must be a name, a \.json file or its values"):
            api.export("lenet5", "none.onnx", preprocess=odd)
    assert taken("evaluate", metric=Path("m.py:good"))["metric"] == "m.py:good"


def test_labels_may_be_names() -> None:
    assert read_labels(["a ", "b"], 2) == read_labels(("a", "b")) == ("a", "b")
    with pytest.raises(api.BadInput, match=r"^labels: holds 2 names, the network has 3 classes"):
        read_labels(["a", "b"], 3)
    for odd, line in (([1], "^labels: name 0 is 'int'"), (3, "^labels 3: must be a file of names or a list of them")):
        with pytest.raises(api.BadInput, match=line):
            api.export("lenet5", "none.onnx", labels=odd)  # type: ignore[arg-type]


def test_a_path_may_be_text() -> None:
    with pytest.raises(api.BadInput, match=r"p\.txt: is no picture's name"):
        api.diff("none.onnx", "none.onnx", plot="p.txt")
    with pytest.raises(api.BadInput, match=": is a file; give the name of a folder"):
        api.diff("none.onnx", "none.onnx", reproducer=__file__)


PATHS = [
    (call, name) for call in api.HOMES for name in inspect.signature(getattr(api, call)).parameters if name in FILES
]


@pytest.mark.parametrize(("call", "name"), PATHS)
@pytest.mark.parametrize(
    ("path", "cause"), [("x" * 300, "too long"), (Path("a\0b"), "null (byte|character)( in path)?")]
)
def test_what_no_file_can_be_called_is_told(call: str, name: str, path: Any, cause: str) -> None:
    with pytest.raises(api.BadInput, match=rf"^{name} '.*: is no file's name \(.*{cause}\); give another$"):
        getattr(api, call)(**{**needed(call), name: path})


def test_several_shapes_go_where_they_can() -> None:
    several = {"x": (3, 8, 8), "y": "4"}
    assert taken("bench", input_shape=several)["input_shape"] == ["x:3,8,8", "y:4"]
    assert taken("bench", input_shape=["x:3,8,8", "y:4"])["input_shape"] == ["x:3,8,8", "y:4"]
    with pytest.raises(api.BadInput, match=r"^input_shape .*: 2 shapes; give one"):
        api.run("none.edge", "none.png", input_shape=several)  # type: ignore[arg-type]


def test_arguments_that_do_not_fit_are_said_by_python() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'bundle'"):
        api.verify()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="tread"):
        api.verify("none.edge", tread=1)  # type: ignore[call-arg]
