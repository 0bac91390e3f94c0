"""Shell patterns over a node's label (its name, else its first output) and the path of the PyTorch module that it
came from: what `--exclude` means.

Test: tests/test_placement.py.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence

import onnx

from exporters.graph import label, own_module


def names_in(model: onnx.ModelProto) -> list[str]:
    """Every label and module path of `model` that a pattern could mean."""
    return [name for node in model.graph.node for name in (label(node), own_module(node)) if name]


def matches(pattern: str, names: Collection[str]) -> bool:
    """Whether the shell `pattern` means one of `names`."""
    return pattern in names if is_name(pattern) else any(fnmatch.fnmatchcase(name, pattern) for name in names)


def is_name(pattern: str) -> bool:
    """Whether a pattern means nothing but itself."""
    return not any(letter in pattern for letter in "*?[")


class Excluding:
    """Asked for a node, the first of the shell `patterns` that its label or its module path matches, else None.

    Patterns that are names are looked up: a search asks with all layers but one in float, for each layer.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = patterns
        self._shells = [i for i, pattern in enumerate(patterns) if not is_name(pattern)]
        self._places = {pattern: i for i, pattern in reversed([*enumerate(patterns)]) if is_name(pattern)}

    def __call__(self, node: onnx.NodeProto) -> str | None:
        names = [name for name in (label(node), own_module(node)) if name]
        found = [self._places[name] for name in names if name in self._places]
        shell = next((i for i in self._shells if matches(self.patterns[i], names)), None)
        found += [] if shell is None else [shell]
        return self.patterns[min(found)] if found else None


def excluding(node: onnx.NodeProto, patterns: Sequence[str]) -> str | None:
    """`Excluding(patterns)` for one node."""
    return Excluding(patterns)(node)
