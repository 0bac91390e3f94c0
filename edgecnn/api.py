"""Every command as a Python call of the same name and arguments: `from edgecnn import api; api.build("lenet5", ...)`.

A call returns a record and prints nothing, or raises one of the errors below (their tree: runtimes/base.py). Each is
imported from its home when it is first used, so that a program that only calls `api.bench` never pays for torch.
Test: tests/test_api.py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecnn.benchmark import bench as bench
    from edgecnn.compare import check as check
    from edgecnn.demo import demo as demo
    from edgecnn.diff import diff as diff
    from edgecnn.doctor import doctor as doctor
    from edgecnn.evaluate import evaluate as evaluate
    from edgecnn.halving import half as half
    from edgecnn.inspect import inspect as inspect
    from edgecnn.predict import run as run
    from edgecnn.predict import verify as verify
    from edgecnn.profile import profile as profile
    from edgecnn.quantizing import quantize as quantize
    from edgecnn.road import build as build
    from edgecnn.road import export as export
    from edgecnn.single import fold as fold
    from edgecnn.single import simplify as simplify
    from edgecnn.train import train as train
    from edgecnn.zoo import list_models as models
    from runtimes.base import BadInput as BadInput
    from runtimes.base import CheckFailed as CheckFailed
    from runtimes.base import EdgeError as EdgeError
    from runtimes.base import Inconclusive as Inconclusive
    from runtimes.base import Unavailable as Unavailable

HOMES = {
    "bench": "edgecnn.benchmark:bench",
    "build": "edgecnn.road:build",
    "check": "edgecnn.compare:check",
    "demo": "edgecnn.demo:demo",
    "diff": "edgecnn.diff:diff",
    "doctor": "edgecnn.doctor:doctor",
    "evaluate": "edgecnn.evaluate:evaluate",
    "export": "edgecnn.road:export",
    "fold": "edgecnn.single:fold",
    "half": "edgecnn.halving:half",
    "inspect": "edgecnn.inspect:inspect",
    "models": "edgecnn.zoo:list_models",
    "profile": "edgecnn.profile:profile",
    "quantize": "edgecnn.quantizing:quantize",
    "run": "edgecnn.predict:run",
    "simplify": "edgecnn.single:simplify",
    "train": "edgecnn.train:train",
    "verify": "edgecnn.predict:verify",
}
ERRORS = {
    name: f"runtimes.base:{name}" for name in ("BadInput", "CheckFailed", "EdgeError", "Inconclusive", "Unavailable")
}
__all__ = [
    "BadInput", "CheckFailed", "EdgeError", "Inconclusive", "Unavailable",
    "bench", "build", "check", "demo", "diff", "doctor", "evaluate", "export", "fold",
    "half", "inspect", "models", "profile", "quantize", "run", "simplify", "train", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = {**HOMES, **ERRORS}.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = home.split(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*HOMES, *ERRORS]
