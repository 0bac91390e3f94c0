"""Every command as a Python call of the same name and arguments: `from edgecnn import api; api.build("lenet5", ...)`.

A call returns a record and prints nothing. Each is imported from its home when it is first used, so that a program that
only calls `api.bench` never pays for torch. Test: tests/test_api.py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecnn.benchmark import bench as bench
    from edgecnn.compare import check as check
    from edgecnn.demo import demo as demo
    from edgecnn.doctor import doctor as doctor
    from edgecnn.inspect import inspect as inspect
    from edgecnn.predict import run as run
    from edgecnn.predict import verify as verify
    from edgecnn.quantizing import quantize as quantize
    from edgecnn.road import build as build
    from edgecnn.road import export as export
    from edgecnn.single import fold as fold
    from edgecnn.single import simplify as simplify
    from edgecnn.train import train as train
    from edgecnn.zoo import list_models as models

HOMES = {
    "bench": "edgecnn.benchmark:bench",
    "build": "edgecnn.road:build",
    "check": "edgecnn.compare:check",
    "demo": "edgecnn.demo:demo",
    "doctor": "edgecnn.doctor:doctor",
    "export": "edgecnn.road:export",
    "fold": "edgecnn.single:fold",
    "inspect": "edgecnn.inspect:inspect",
    "models": "edgecnn.zoo:list_models",
    "quantize": "edgecnn.quantizing:quantize",
    "run": "edgecnn.predict:run",
    "simplify": "edgecnn.single:simplify",
    "train": "edgecnn.train:train",
    "verify": "edgecnn.predict:verify",
}
__all__ = [
    "bench", "build", "check", "demo", "doctor", "export", "fold",
    "inspect", "models", "quantize", "run", "simplify", "train", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = HOMES[name].split(":")
    return getattr(importlib.import_module(module), function)


def __dir__() -> list[str]:
    return list(HOMES)
