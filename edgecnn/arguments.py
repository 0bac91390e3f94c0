"""What the arguments of a call may be: the ranges that the command line and the Python calls share, and their spelling.

    api.diff(..., samples=0)  ->  BadInput: samples 0: must be a whole number of 1 to 1,000

Test: tests/test_arguments.py.
"""

from __future__ import annotations

import errno
import inspect
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from edgecnn.foreign import GIVEN, refuse_given
from edgecnn.tracked import walked
from runtimes.base import BadInput

FILES = (
    *GIVEN, "baseline", "calib", "csv", "data", "directory", "inputs", "output", "plot", "reproducer", "save",
    "weights",
)  # fmt: skip
"""Arguments that may name files."""
SHOWN = 60
"""Characters of an odd value that an error shows."""


@dataclass(frozen=True)
class Range:
    """Numbers of `low` to `high`; `above` and `below`: without that end."""

    low: int | None = None
    high: int | None = None
    whole: bool = True
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        if self.low is None:
            return kind
        low = f"{kind} {'above' if self.above else 'of'} {self.low}"
        if self.below:
            return f"{low} or more, below {self.high}"
        return low + (f" to {self.high:,}" if self.high is not None else "" if self.above else " or more")

    def take(self, name: str, value: object) -> int | float:
        """`value` as a number of Python's own; raises `BadInput` for what is none, or outside."""
        kind = Integral if self.whole else Real
        if isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value) and self._holds(value):
            return int(value) if isinstance(value, Integral) else float(value)
        raise BadInput(f"{name} {_shown(value)}: must be {self}")

    def _holds(self, value: Any) -> bool:
        low = self.low is None or (value > self.low if self.above else value >= self.low)
        return bool(low and (self.high is None or (value < self.high if self.below else value <= self.high)))


COUNT = Range(1)
SHARE = Range(0, 1, whole=False)
PART = Range(0, 1, whole=False, below=True)
RANGES = {
    "batch": COUNT, "depth": COUNT, "epochs": COUNT, "iterations": COUNT, "limit": COUNT, "num_classes": COUNT,
    "patience": COUNT, "top": COUNT, "most": Range(1, 30_000), "samples": Range(1, 1000), "threads": Range(1, 1024),
    "warmup": Range(0), "seed": Range(0, 2**63 - 1), "opset": Range(),
    "iou": SHARE, "min_score": SHARE, "score": SHARE, "top1": SHARE,
    "label_smoothing": PART, "momentum": PART, "tolerance": PART, "weight_decay": PART,
    "max_drop": Range(0, whole=False), "min_metric": Range(whole=False), "rate": Range(0, whole=False, above=True),
    "search_budget": Range(0, 3600, whole=False), "timeout_s": Range(1, whole=False),
}  # fmt: skip
"""By the name of the argument; what a call has of its own is in `OWN`."""
OWN = {("bench", "iterations"): Range(2), ("diff", "snr_db"): Range(whole=False)}


def range_of(name: str, call: str = "") -> Range | None:
    """The numbers that the argument `name` of `call` may be; None where it takes other things."""
    return OWN.get((call, name), RANGES.get(name))


def settled(call: Callable[..., Any], name: str, args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    """The arguments of the API's call `name` (an `inspect.BoundArguments`), as `call` wants them.

    Raises `BadInput` for another framework's model, for what is out of range and for what would do nothing, and the
    TypeError that Python raises for arguments that do not fit.
    """
    from edgecnn.idle import refuse_idle  # which `--help` does without

    bound = inspect.signature(call).bind(*args, **given)
    refuse_given(bound.arguments)
    for argument, value in bound.arguments.items():
        parameter = bound.signature.parameters[argument]
        kinds = str(parameter.annotation)
        if value is not None or not (parameter.default is None or "None" in kinds):
            bound.arguments[argument] = _settled(name, argument, value, kinds)
    usual = {argument: parameter.default for argument, parameter in bound.signature.parameters.items()}
    other = [argument for argument, value in bound.arguments.items() if not _same(value, usual[argument])]
    refuse_idle(name, other, usual | bound.arguments)
    return bound


def _same(value: object, default: object) -> bool:
    """Whether both are the same; of arrays that is not asked."""
    return value is default or (isinstance(value, str | int | float) and value == default)


def _settled(call: str, name: str, value: Any, kinds: str) -> Any:
    allowed = range_of(name, call)
    if allowed is not None:
        if "Sequence" in kinds and isinstance(value, list | tuple | range) and value:
            return tuple(allowed.take(name, each) for each in value)
        return allowed.take(name, value)
    if name == "track":
        return walked(value)
    if name == "provider":
        texts = value if "Sequence" in kinds and isinstance(value, list | tuple) else [value]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise BadInput(f"provider {_shown(value)}: must be a text, as cpu or cuda")
    if name in FILES:
        for path in value if isinstance(value, list | tuple) else [value]:
            _refuse_no_name(name, path)
    if name in ("preprocess", "metric") and isinstance(value, os.PathLike):
        return os.fspath(value)
    if name == "preprocess" and not isinstance(value, str):
        return _as_json(value)
    if name == "labels" and not isinstance(value, str | os.PathLike | list | tuple):
        raise BadInput(f"labels {_shown(value)}: must be a file of names or a list of them")
    if name == "input_shape":
        return _as_text(value, one="Shape" not in kinds)
    return value


def _refuse_no_name(name: str, path: object) -> None:
    """Raise `BadInput` where no file can have the name `path`."""
    if not isinstance(path, str | os.PathLike):
        return
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in it
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            cause = getattr(error, "strerror", None) or error
            raise BadInput(f"{name} {_shown(os.fspath(path))}: is no file's name ({cause}); give another") from error


def _as_text(shape: Any, one: bool) -> Any:
    """`shape` as commands spell it; `one`: the call takes one text alone."""
    from edgecnn.given_model import shape_text  # brings numpy, which `--help` does without

    try:
        text = shape_text(shape)
    except TypeError as error:
        advice = "give sizes as (3, 224, 224), a text as 3,224,224, or a dict of input names and sizes"
        raise BadInput(f"input_shape {_shown(shape)}: is no shape; {advice}") from error
    if not one or text is None or isinstance(text, str):
        return text
    if len(text) > 1:
        raise BadInput(f"input_shape {_shown(shape)}: {len(text)} shapes; give one")
    return text[0] if text else None


def _as_json(preprocess: object) -> str:
    try:
        if isinstance(preprocess, Mapping):
            return json.dumps(dict(preprocess))
    except (TypeError, ValueError):
        pass
    raise BadInput(f'preprocess {_shown(preprocess)}: must be a name, a .json file or its values, as {{"mean": [0.5]}}')


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
