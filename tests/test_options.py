"""A type checker knows which report comes back: the overloads say what the signatures say."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import get_args

import pytest

from edgecnn import api
from edgecnn.choosing import options
from edgecnn.choosing.quantizing import quantize
from edgecnn.road import build
from exporters.targets import cpu_target, targets_int8


@pytest.mark.parametrize(
    ("call", "known", "apart"),
    [(quantize, options.QuantizeOptions, {"target"}), (build, options.BuildOptions, {"calib", "provider"})],
)
def test_every_option_is_there(call: Callable[..., object], known: type, apart: set[str]) -> None:
    signature = inspect.signature(call).parameters.values()
    asked = {p.name: p.annotation for p in signature if p.kind is p.KEYWORD_ONLY and p.name not in apart}
    kinds = {
        key: value.__forward_arg__
        for base in known.__mro__
        for key, value in vars(base).get("__annotations__", {}).items()
    }
    assert sorted(kinds) == sorted(asked)
    spelled = {name: str(kind).replace("StrPath", "str | os.PathLike[str]") for name, kind in asked.items()}
    assert kinds == spelled


def test_the_targets_of_the_overloads_are_all_that_there_are() -> None:
    assert set(get_args(options.CPU)) == set(cpu_target.TARGETS)
    assert set(get_args(options.OTHER_RUNTIME)) == set(targets_int8.TARGETS)


def test_each_kind_of_call_has_its_report() -> None:
    told = {
        name: [str(one.__annotations__["return"]) for one in typing.get_overloads(call)]
        for name, call in (("quantize", quantize), ("build", build))
    }
    assert told == {
        "quantize": ["QuantizeReport", "TargetReport", "QuantizeReport | TargetReport"],
        "build": ["BuildReport", "BuildReport | DeviceBuildReport"],
    }
    assert inspect.signature(api.quantize) == inspect.signature(quantize)  # what help() shows is the whole signature
