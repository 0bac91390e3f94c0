"""edgecnn: from a PyTorch CNN to a small, fast, proven ONNX deployment. Start at `edgecnn.api` or `edgecnn --help`."""

from __future__ import annotations

from importlib.machinery import PathFinder as _PathFinder
from pathlib import Path as _Path

__version__ = "0.1.0"

# Other distributions on the public index own the names `exporters` and `runtimes` too: say so now, in one sentence.
for _name in ("exporters", "runtimes"):
    _spec = _PathFinder.find_spec(_name)
    _home = _Path(_spec.origin).parent.parent if _spec and _spec.origin else None
    if _home is not None and _home.resolve() != _Path(__file__).resolve().parent.parent:
        raise ImportError(f"{_home / _name}: a foreign package hides edgecnn's own `{_name}`; uninstall it")
