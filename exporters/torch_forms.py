"""What torch's exporter has no ONNX form for, in operators that have one.

    adaptive_max_pool      windows floor(i n / m) .. ceil((i + 1) n / m)    -> MaxPool where regular, else ReduceMax
    kthvalue, median       k smallest, the last of them                     -> TopK, Gather
    rrelu, in eval mode    x where x >= 0, else x (lower + upper) / 2       -> LeakyRelu
    attention over (N, L, E)                                                -> over one head, (N, 1, L, E)

Source: torch.nn.functional documentation of these. Test: tests/test_torch_forms.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from runtimes.base import BadInput


class AttentionOfOneHead(TorchFunctionMode):
    """While it is active `scaled_dot_product_attention` of (N, L, E) is that of (N, 1, L, E)."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | dict(kwargs or {})
        if func is not functional.scaled_dot_product_attention or given["query"].ndim != 3:
            return func(*args, **(kwargs or {}))
        rest = dict(zip(("dropout_p", "is_causal"), args[4:], strict=False))
        mask = given.get("attn_mask")
        if mask is not None and mask.ndim == 3:
            given["attn_mask"] = mask.unsqueeze(1)
        heads = {name: given[name].unsqueeze(1) for name in ("query", "key", "value")}
        return func(**(given | heads | rest)).squeeze(1)


def windows(size: int, count: int) -> list[range]:
    """The regions of an axis of `size` places that an adaptive pool of `count` outputs takes.

    >>> windows(7, 5)
    [range(0, 2), range(1, 3), range(2, 5), range(4, 6), range(5, 7)]
    """
    return [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def kernel_of(found: Sequence[range]) -> tuple[int, int] | None:
    """(kernel, stride) of the pool that has just these windows, from the first place to the last; None if none has.

    >>> kernel_of(windows(13, 4)), kernel_of(windows(7, 5))
    ((4, 3), None)
    """
    kernel = len(found[0])
    stride = found[1].start if len(found) > 1 else kernel
    regular = all(window == range(i * stride, i * stride + kernel) for i, window in enumerate(found))
    return (kernel, stride) if regular else None


def adaptive_max_pool(op: Any) -> Callable[..., Any]:
    """Translates `adaptive_max_pool2d` and `adaptive_max_pool3d` of an input of known size: (values, indices)."""

    def translate(x: Any, output_size: Sequence[int]) -> Any:
        before, sizes = list(x.shape)[: -len(output_size)], list(x.shape)[-len(output_size) :]
        if not all(isinstance(size, int) for size in sizes):
            raise BadInput("adaptive max pool, size open: use edgecnn.layers.adaptive.AdaptiveMaxPool, or fix the size")
        found = [windows(size, count) for size, count in zip(sizes, output_size, strict=True)]
        table = _places(found, sizes)
        shape, rows = op.Constant(value_ints=[*[0] * len(before), *output_size]), op.Constant(value_ints=[*table.shape])
        places = op.Constant(value_ints=table.flatten().tolist())
        flat = op.Reshape(x, op.Constant(value_ints=[*[0] * len(before), -1]))
        gathered = op.Gather(flat, op.Reshape(places, rows), axis=-1)
        firsts = op.Constant(value_ints=[row * table.shape[1] for row in range(len(table))])
        largest = op.Add(op.ArgMax(gathered, axis=-1, keepdims=0), firsts)
        indices = op.Reshape(op.Gather(places, largest), shape)
        known = [kernel for of_axis in found if (kernel := kernel_of(of_axis))]
        if len(known) < len(found):
            return op.Reshape(op.ReduceMax(gathered, op.Constant(value_ints=[-1]), keepdims=0), shape), indices
        sides, strides = [side for side, _ in known], [stride for _, stride in known]
        return op.MaxPool(x, kernel_shape=sides, strides=strides)[0], indices

    return translate


def _places(found: Sequence[Sequence[range]], sizes: Sequence[int]) -> np.ndarray:
    """(outputs, places of the largest window): where in the flat input each output looks; short ones look twice."""
    rows = [
        np.ravel_multi_index([axis.ravel() for axis in np.meshgrid(*of_output, indexing="ij")], tuple(sizes))
        for of_output in itertools.product(*found)
    ]
    most = max(map(len, rows))
    return np.stack([np.pad(row, (0, most - len(row)), mode="edge") for row in rows])


def kth_value(op: Any) -> Callable[..., Any]:
    """Translates `kthvalue`: (values, indices)."""

    def translate(x: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
        at = op.Constant(value_ints=[k - 1]) if keepdim else op.Constant(value_int=k - 1)
        values, places = op.TopK(x, op.Constant(value_ints=[k]), axis=dim, largest=0, sorted=1)
        return op.Gather(values, at, axis=dim), op.Gather(places, at, axis=dim)

    return translate


def median(op: Any) -> Callable[..., Any]:
    """Translates `median` along an axis: of an even number of values the lower one in the middle, as torch has it."""

    def translate(x: Any, dim: int, keepdim: bool = False) -> Any:
        size = x.shape[dim]
        if not isinstance(size, int):
            raise BadInput("a median along an axis of open size; fix the size")
        return kth_value(op)(x, (size + 1) // 2, dim, keepdim)

    return translate


def rrelu(op: Any) -> Callable[..., Any]:
    """Translates `rrelu` outside of training, where its slope is the mean of its limits, and gives the noise back."""

    def translate(
        x: Any, noise: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None
    ) -> Any:
        if training:
            raise BadInput("rrelu with training=True draws at random; hand self.training to it")
        return op.LeakyRelu(x, alpha=(lower + upper) / 2), noise

    return translate


FORMS: Mapping[str, Callable[[Any], Callable[..., Any]]] = {
    "aten::adaptive_max_pool2d.default": adaptive_max_pool,
    "aten::adaptive_max_pool3d.default": adaptive_max_pool,
    "aten::kthvalue.default": kth_value,
    "aten::median.dim": median,
    "aten::rrelu_with_noise_functional.default": rrelu,
}
"""Operator of torch -> what makes its translation (`torch_export.exports_as`)."""
