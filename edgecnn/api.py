"""Every command as a Python call of the same name and arguments: `from edgecnn import api; api.build("lenet5", ...)`.
`load` alone is no command: what it returns stays open between calls.

A call returns a record and prints nothing, or raises one of the errors below (their tree: runtimes/base.py). Each is
imported from its home when it is first used, so that a program that only calls `api.bench` never pays for torch.
`track(items, label)` is called for every long loop and must return an iterable of the items. Test: tests/test_api.py.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecnn.checking.compare import check as check
    from edgecnn.checking.diff import diff as diff
    from edgecnn.choosing.quantizing import quantize as quantize
    from edgecnn.decoding import decode as decode
    from edgecnn.demo import demo as demo
    from edgecnn.doctor import doctor as doctor
    from edgecnn.evaluation.evaluate import evaluate as evaluate
    from edgecnn.halving import half as half
    from edgecnn.latency.benchmark import bench as bench
    from edgecnn.networks.zoo import list_models as models
    from edgecnn.numbers.inspect import inspect as inspect
    from edgecnn.page.write import report as report
    from edgecnn.prediction.loaded import load as load
    from edgecnn.prediction.predict import run as run
    from edgecnn.prediction.predict import verify as verify
    from edgecnn.profiling.profile import profile as profile
    from edgecnn.road import build as build
    from edgecnn.road import export as export
    from edgecnn.single import fold as fold
    from edgecnn.single import simplify as simplify
    from edgecnn.training.train import train as train
    from runtimes.base import BadInput as BadInput
    from runtimes.base import CheckFailed as CheckFailed
    from runtimes.base import EdgeError as EdgeError
    from runtimes.base import Inconclusive as Inconclusive
    from runtimes.base import Unavailable as Unavailable
    from runtimes.proof.settling import settle as settle

HOMES = {
    "bench": "edgecnn.latency.benchmark:bench",
    "build": "edgecnn.road:build",
    "check": "edgecnn.checking.compare:check",
    "decode": "edgecnn.decoding:decode",
    "demo": "edgecnn.demo:demo",
    "diff": "edgecnn.checking.diff:diff",
    "doctor": "edgecnn.doctor:doctor",
    "evaluate": "edgecnn.evaluation.evaluate:evaluate",
    "export": "edgecnn.road:export",
    "fold": "edgecnn.single:fold",
    "half": "edgecnn.halving:half",
    "inspect": "edgecnn.numbers.inspect:inspect",
    "load": "edgecnn.prediction.loaded:load",
    "models": "edgecnn.networks.zoo:list_models",
    "profile": "edgecnn.profiling.profile:profile",
    "quantize": "edgecnn.choosing.quantizing:quantize",
    "report": "edgecnn.page.write:report",
    "run": "edgecnn.prediction.predict:run",
    "settle": "runtimes.proof.settling:settle",
    "simplify": "edgecnn.single:simplify",
    "train": "edgecnn.training.train:train",
    "verify": "edgecnn.prediction.predict:verify",
}
ERRORS = {
    name: f"runtimes.base:{name}" for name in ("BadInput", "CheckFailed", "EdgeError", "Inconclusive", "Unavailable")
}
__all__ = [
    "BadInput", "CheckFailed", "EdgeError", "Inconclusive", "Unavailable",
    "bench", "build", "check", "decode", "demo", "diff", "doctor", "evaluate", "export", "fold",
    "half", "inspect", "load", "models", "profile", "quantize", "report", "run", "settle", "simplify", "train",
    "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = {**HOMES, **ERRORS}.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = home.split(":")
    found = getattr(importlib.import_module(module), attribute)
    return _looked_at(found, name) if name in HOMES else found


@functools.cache  # one object a call, as pickle wants
def _looked_at(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    """`call`, which tells in one line of another framework's model, a `track` that cannot be walked through, and of
    arguments that are out of range or would do nothing."""

    @functools.wraps(call)
    def looked_at(*args: Any, **given: Any) -> Any:
        from edgecnn.arguments import settled

        bound = settled(call, name, args, given)
        return call(*bound.args, **bound.kwargs)

    looked_at.__module__, looked_at.__qualname__ = __name__, name  # where pickle finds it
    return looked_at


def __dir__() -> list[str]:
    return [*HOMES, *ERRORS]
