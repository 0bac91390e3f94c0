"""Integer graphs whose numbers are tested: on a CPU whose sums saturate they are run as twins that do not."""

from __future__ import annotations

import onnx

from exporters.targets.cpu_target import SATURATING, this_cpu
from exporters.targets.weight_forms import exact


def exactly(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, or on a saturating CPU the graph that computes here what `model` does elsewhere."""
    return exact(model) if this_cpu() in SATURATING else model
