"""Shell patterns over a node's name and the path of the PyTorch module that it came from: what `--exclude` means.

Test: tests/test_placement.py.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import onnx

from exporters.graph import MODULE_KEY, get_meta


def excluding(node: onnx.NodeProto, patterns: Sequence[str]) -> str | None:
    """The first of the shell `patterns` that the name or the module path of `node` matches."""
    names = [node.name, get_meta(node).get(MODULE_KEY, "")]
    return next((p for p in patterns if any(n and fnmatch.fnmatchcase(n, p) for n in names)), None)
