"""Where a node came from: the path of its PyTorch module, whichever exporter wrote it, and what was folded into it.

    edgecnn.module = layer1.0.conv1        pkg.torch.onnx.name_scopes = ['', 'layer1', 'layer1.0', ..., 'conv2d']
    /layer1/layer1.0/conv1/Conv            (the name that torch's older exporter gives)

Test: tests/test_origin.py.
"""

from __future__ import annotations

import ast
import re

import onnx

from exporters.graph import ABSORBED_KEY, MODULE_KEY, get_meta

SCOPES_KEY = "pkg.torch.onnx.name_scopes"


def module_of(node: onnx.NodeProto) -> str:
    """Path of the module that `node` came from; empty when nothing tells."""
    meta = get_meta(node)
    if MODULE_KEY in meta:
        return meta[MODULE_KEY]
    if SCOPES_KEY in meta:
        return module_path(meta[SCOPES_KEY])
    return path_in_name(node.name)


def last_module(node: onnx.NodeProto) -> str:
    """Path of the module whose output `node` makes: that of the last node which was folded into it, else its own."""
    absorbed = get_meta(node).get(ABSORBED_KEY, "").split("\n")[-1]
    return absorbed.rpartition("/")[0] or module_of(node)


def module_path(scopes: str) -> str:
    """Path of the innermost module in the exporter's scope list: `['', 'layer1', 'layer1.0', 'conv2d']` -> `layer1.0`.

    >>> module_path("['', 'stem', 'stem.1', 'relu']")
    'stem.1'
    >>> module_path("[]")
    ''
    """
    try:
        names = ast.literal_eval(scopes)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two of a text that is nested deeply
        return ""
    path = str(names[-2]) if isinstance(names, list) and len(names) > 1 else ""
    return "" if path.startswith("_") else path  # nodes for symbolic sizes carry an internal marker instead of a module


def path_in_name(name: str) -> str:
    """Module path in a node name of torch's older exporter, where each part may repeat the one before it.

    >>> path_in_name("/layer1/layer1.0/conv1/Conv"), path_in_name("/features/features.0/features.0.0/Conv_1")
    ('layer1.0.conv1', 'features.0.0')
    >>> path_in_name("Conv_3")
    ''
    """
    parts = name.split("/")
    if not name.startswith("/") or len(parts) < 3 or not re.fullmatch(r"[A-Za-z]\w*", parts[-1]):
        return ""
    path, last = "", parts[1]
    for part in parts[2:-1]:
        if not part.startswith(f"{last}."):
            path += f"{last}."
        last = part
    return path + last
