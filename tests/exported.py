"""A module's outputs in PyTorch and, after export, in ONNX Runtime, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import nn

from edgecnn.float_passes import FLOAT_PASSES, run_pass
from exporters.graph import op_counts
from exporters.torch_export import export_module, module_runner
from runtimes.session import open_session


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def seeded(make: type[nn.Module], *args: object, **kwargs: object) -> nn.Module:
    """`make(...)` with weights from seed 0."""
    torch.manual_seed(0)
    return make(*args, **kwargs).eval()


def run_torch(module: nn.Module, x: np.ndarray) -> np.ndarray:
    return module_runner(module, ["output"])({"input": x})["output"]


def run_onnx(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """All outputs of `model`, whose only input is `x`."""
    session = open_session(model)
    return list(session({session.inputs[0].name: x}).values())


def exported(module: nn.Module, shape: Sequence[int], *, size: bool = False) -> onnx.ModelProto:
    """The ONNX graph of `module` for (N, *shape), N open, with `size` the axes behind the channels too."""
    model = export_module(module, shape, dynamic_size=size)
    assert {node.domain for node in model.graph.node} <= {""}, "not a standard operator"
    return model


class Several(nn.Module):
    """The outputs of several modules for the same input: one export, which takes a second, instead of many."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(module(x) for module in self.parts)


def simplified(modules: Sequence[nn.Module], shape: Sequence[int]) -> dict[str, int]:
    """How often each operator is in the graph of `modules` once the float road is done with it; in child processes."""
    model = exported(Several(modules), shape)
    for name in FLOAT_PASSES:
        model, _ = run_pass(name, model)
    return op_counts(model)


def agree(modules: Sequence[nn.Module], x: np.ndarray, *, atol: float, sizes: bool = False) -> list[np.ndarray]:
    """PyTorch's answers of `modules` to `x` (N, ...), after holding ONNX Runtime's to them within `atol`.

    Also for one image of `x`, and with `sizes` from a graph whose sizes are open.
    """
    return same(exported(Several(modules), x.shape[1:], size=sizes), modules, x, atol)


def same(model: onnx.ModelProto, modules: Sequence[nn.Module], x: np.ndarray, atol: float) -> list[np.ndarray]:
    """PyTorch's answers of `modules` to `x`, after holding those of `model` to them, for all of `x` and for one."""
    wanted = [run_torch(module, x) for module in modules]
    for answer, one, right in zip(run_onnx(model, x), run_onnx(model, x[:1]), wanted, strict=True):
        np.testing.assert_allclose(answer, right, rtol=0, atol=atol)
        np.testing.assert_allclose(one, right[:1], rtol=0, atol=atol)
    return wanted
