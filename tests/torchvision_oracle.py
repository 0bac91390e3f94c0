"""torchvision's network definitions as an oracle: names, counts, initial values and outputs, never its weights.

torchvision's wheel expects its compiled operators; beside another build of torch its import stops at "operator
torchvision::nms does not exist". Declaring empty schemas under those names first lets the definitions be imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

_schemas: list[torch.library.Library] = []  # a Library takes its operators with it when it is collected


def torchvision_models() -> ModuleType:
    """The module `torchvision.models`; skips the test where torchvision is not installed."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        pytest.skip("torchvision is not installed; `pip install --no-deps torchvision` makes it the oracle")
    if not _schemas and not hasattr(torch.ops.torchvision, "nms"):
        _declare(Path(spec.origin).parent)
    return importlib.import_module("torchvision.models")


def _declare(home: Path) -> None:
    source = "".join(path.read_text("utf-8") for path in home.glob("_*registrations.py"))
    names = sorted(set(re.findall(r'(?:register_meta\("|torchvision::)(\w+)"', source)))
    _schemas.append(torch.library.Library("torchvision", "FRAGMENT"))
    for name in names:
        _schemas[0].define(f"{name}(Tensor x) -> Tensor")
