"""Why torch cannot run or export a network, in one line that its author can act on.

    several layers of advice -> the innermost error -> what it means: TorchScript, an `if` on values, a missing operator

torch's own text names classes and symbols of torch; the place that counts is a line of the user's file.
Test: tests/test_torch_export.py.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from pathlib import Path

EXPORTERS = ("onnxscript", "onnx_ir")
"""Packages that torch's exporter is made of."""


def scripted(paths: Sequence[str]) -> str:
    """That the parts at `paths` ("" is the whole) are TorchScript, in which the exporter sees no layers; else empty."""
    whose = f"its part {paths[0]} is" if paths and paths[0] else "it is"
    return f"{whose} TorchScript; give the nn.Module that was scripted or traced" if paths else ""


def place_of(error: BaseException) -> str:
    """` at nets.py line 12`: where in somebody's own code `error` was raised; empty when none of it is on the way."""
    ours = str(Path(__file__).resolve().parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith((ours, "<"))]
    own = [f for f in own if Path(f.filename).suffix == ".py" and "/lib/python" not in f.filename]
    return f" at {Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""


def innermost(error: BaseException) -> BaseException:
    """The exporter wraps what went wrong in several layers of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def unfit(error: BaseException) -> str:
    """That the packages behind the exporter do not fit this torch, where that is why; else empty."""
    first = innermost(error)
    package = (first.name or "").partition(".")[0] if isinstance(first, ImportError) else ""
    if package not in EXPORTERS:
        return ""
    return f"{package}: is not one that this torch can export with ({first_line(first)}); install a newer {package}"


def cause(error: BaseException) -> str:
    """The innermost reason, in our words where it is known."""
    error = innermost(error)
    if missing := re.search(r"No ONNX function found for <OpOverload\(op='(?:\w+\.)?(\w+)'", str(error)):
        if "complex" in str(error):
            return f"it computes with complex numbers ({missing[1]}); write that with real and imaginary parts"
        return f"it has no ONNX form of {missing[1]}; write that layer with other operators"
    if "Unsupported attribute type" in str(error) and "Symbolic" in str(error):
        return "groups, a kernel or a stride of it depends on the size of the input; if it is the batch, add --static"
    if "torch.classes.quantized" in str(error):
        return "it is quantized by torch; give the float network, of which int8 is made here"
    if "data-dependent" in str(error):
        decides = f"it decides{place_of(error)} by a number that it has computed (an `if`, a loop or a size)"
        return f"{decides}, and a graph is one for all inputs; use torch.where, or a fixed size"
    return first_line(error)


def first_line(error: BaseException) -> str:
    """First line with content of an error's text, else its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
