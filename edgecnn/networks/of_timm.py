"""Networks that timm made, as a function of the user's returns them: what their configuration says.

    pretrained_cfg    input_shape, with the channels of the first convolution; preprocess, where those are the same
    num_classes == 0  task: embedding, where the features are pooled

`timm:NAME` reads the same configuration (libraries.py). Nothing of the package is imported.
Test: tests/test_of_timm.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from edgecnn.networks.axes import first_channels, is_from
from edgecnn.networks.libraries import pixels_of
from edgecnn.tasks import EMBEDDING
from runtimes.base import BadInput

PACKAGE = "timm"


def said(module: nn.Module) -> dict[str, Any]:
    """`input_shape`, `preprocess` and `task`, as own_attributes.py reads them, of a `module` of theirs; of another
    nothing.
    """
    cfg = getattr(module, "pretrained_cfg", None)
    if not is_from(module, PACKAGE) or not isinstance(cfg, Mapping):
        return {}
    found: dict[str, Any] = {}
    pooled = all(getattr(part, "pool_type", "avg") for part in module.modules())
    if getattr(module, "num_classes", None) == 0 and pooled:
        found["task"] = EMBEDDING
    try:
        preprocess, channels = pixels_of(cfg), first_channels(module)
    except (BadInput, KeyError, TypeError, ValueError):
        return found
    found["input_shape"] = (channels, *preprocess.size)
    return {**found, "preprocess": preprocess} if channels == preprocess.channels else found
