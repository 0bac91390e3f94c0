"""What `edgecnn quantize --target NAME` can aim at, when that is not the processor it runs on.

    NAME -> how the integer graph is written, what must hold for it, and what a user must know

Without a target the graph is raced here and shipped only where it wins. A target with a `home` is written by another
function and cannot be raced here; `words` is the sentence that says so. (`exporters/targets/target.py` is about
releases of ONNX Runtime, `exporters/targets/cpu_target.py` emulates processors.) Test: tests/test_tensorrt.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Int8Target:
    """`home` is `module:function`, called as `quantization.quantize.quantize_model` is; `check` lists what is wrong."""

    name: str
    home: str
    check: str
    words: str

    def quantizer(self) -> Callable[..., Any]:
        return _function(self.home)

    def checker(self) -> Callable[..., Any]:
        return _function(self.check)


TARGETS = {
    "tensorrt": Int8Target(
        "tensorrt",
        "exporters.targets.tensorrt:quantize_tensorrt",
        "exporters.targets.tensorrt_check:check_tensorrt",
        "written in TensorRT's layout, checked statically and not raced: nothing here runs TensorRT, and ONNX "
        "Runtime's own CUDA provider computes int8 dequantized, in float",
    ),
}


def _function(home: str) -> Callable[..., Any]:
    module, name = home.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
