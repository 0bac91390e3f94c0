"""What PyTorch's operators multiply while a network runs, also where no layer calls them: `F.conv2d`, `@`, einsum.

    convolution               output elements x elements of one kernel       transposed: input elements x the same
    mm, bmm, addmm, mv ...    elements of the left operand x columns of the right one
    attention                 queries x keys x (size of a key + size of a value)
    recurrent layers          steps x elements of their matrices; where torch runs them step by step, its products
    bilinear                  x A y: elements of A, and outputs x size of y, for each row

`Operators` hands on each operator that counts, below everything that Python wrote. What comes of weights alone (a
kernel that is normed before it is used) counts nothing: it is the same for every input, and the export computes it
once. FFTs are no sums of products here, as in an ONNX graph. Test: tests/test_aten.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from edgecnn.numbers.layer_table import Part, Sizes, local_part, pooled_to

PRODUCTS = {
    "mm": 0, "bmm": 0, "mv": 0, "dot": 0, "vdot": 0,
    "addmm": 1, "_addmm_activation": 1, "baddbmm": 1, "addbmm": 1, "addmv": 1,
}  # fmt: skip
"""Operator -> which of its operands is the left one; the right one follows."""
CONVOLUTIONS = ("convolution", "convolution_overrideable", "_convolution")
POOLS = {
    "max_pool2d_with_indices": "pool", "max_pool3d_with_indices": "pool", "avg_pool2d": "avgpool",
    "avg_pool3d": "avgpool",
}  # fmt: skip
ADAPTIVE = {
    "adaptive_max_pool2d": "pool", "adaptive_max_pool3d": "pool", "_adaptive_avg_pool2d": "avgpool",
    "_adaptive_avg_pool3d": "avgpool",
}  # fmt: skip

Fixed = Callable[[torch.Tensor], bool]
"""Whether a tensor comes of weights alone."""


@dataclass(frozen=True)
class Product:
    """One operator that ran: its multiply-adds, what it made, and its lines of the layer table."""

    macs: int
    output: Sizes
    parts: tuple[Part, ...]


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, `found` is called with each operator that multiplies or pools. `weights` do not change."""

    def __init__(self, weights: Iterable[torch.Tensor], found: Callable[[Product], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found = found
        self._fixed: dict[int, StorageWeakRef] = {}  # the reference keeps the address from being used again
        for weight in weights:
            self._keep(weight)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func.namespace == "aten":
            with self:  # under inference_mode operators come whole
                parts = func.decompose(*args, **given)
            if parts is not NotImplemented:
                return parts
        made = func(*args, **given)
        operands = [value for value in pytree.tree_leaves((args, given)) if isinstance(value, torch.Tensor)]
        fixed = bool(operands) and all(map(self._is_fixed, operands))
        if not fixed and (product := product_of(func, args, made, self._is_fixed)) is not None:
            self._found(product)
        for value in pytree.tree_leaves(made):
            if isinstance(value, torch.Tensor):
                self._keep(value, fixed)
        return made

    def _keep(self, value: torch.Tensor, fixed: bool = True) -> None:
        key = _storage(value)
        if fixed and key is not None:
            self._fixed[key] = StorageWeakRef(value.untyped_storage())  # type: ignore[no-untyped-call]
        elif key is not None:
            self._fixed.pop(key, None)  # written over with what comes of an input

    def _is_fixed(self, value: torch.Tensor) -> bool:
        return _storage(value) in self._fixed


def _storage(value: torch.Tensor) -> int | None:
    try:
        return int(value.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse tensors have none
        return None


def product_of(func: Any, args: Sequence[Any], made: Any, fixed: Fixed) -> Product | None:
    """What `func`, which made `made` of `args`, multiplied or pooled; None for what does neither."""
    name = func._schema.name.rpartition("::")[2]
    first = made[0] if isinstance(made, list | tuple) and made else made
    if not isinstance(first, torch.Tensor) or not func._schema.name.startswith("aten::"):
        return None
    output = tuple(first.shape)
    if name in PRODUCTS:
        left, right = args[PRODUCTS[name] :][:2]
        columns = right.shape[-1] if right.dim() > 1 else 1
        return Product(left.numel() * columns, output, (_product_part(left, right, output, fixed),))
    if name in CONVOLUTIONS:
        return _convolution(args, output)
    if name in POOLS or name in ADAPTIVE or name == "mean":
        part = _pool(name, args, tuple(args[0].shape), output)
        return None if part is None else Product(0, output, (part,))
    if name.startswith("_scaled_dot_product"):
        return _attention(args, output)
    macs = _others(name, args)
    return Product(macs, output, (Part("matmul", "", output=output, macs=macs),)) if macs else None


def _attention(args: Sequence[Any], output: Sizes) -> Product:
    """Queries times keys, and those times the values."""
    query, key, value = (tuple(tensor.shape) for tensor in args[:3])
    scores = (*query[:-1], key[-2])
    terms = [math.prod(scores) * size for size in (query[-1], value[-1])]
    made = zip((scores, output), terms, strict=True)
    return Product(sum(terms), output, tuple(Part("matmul", "", output=sizes, macs=macs) for sizes, macs in made))


def _others(name: str, args: Sequence[Any]) -> int:
    if name == "mkldnn_rnn_layer":  # (T, N, I), W, R
        return int(math.prod(args[0].shape[:-1]) * (args[1].numel() + args[2].numel()))
    if name in ("_cudnn_rnn", "miopen_rnn"):
        return int(math.prod(args[0].shape[:-1]) * sum(weight.numel() for weight in args[1] if weight.dim() > 1))
    if name == "_trilinear":  # x (N, I), A (O, I, J), y (N, J) of nn.Bilinear
        return int(args[0].shape[0] * (args[1].numel() + args[1].shape[0] * args[1].shape[-1]))
    return 0


def _convolution(args: Sequence[Any], output: Sizes) -> Product:
    """W (O, I/groups, k...), of a transposed one (I, O/groups, k...)."""
    given, weight, transposed, groups = args[0], tuple(args[1].shape), args[6], args[8]
    macs = math.prod(given.shape if transposed else output) * math.prod(weight[1:])
    ends = (weight[0], weight[1] * groups)
    inputs, outputs = ends if transposed else ends[::-1]
    kind = "upconv" if transposed else "conv"
    return Product(macs, output, (Part(kind, "", weight[2:], inputs, outputs, groups, output, macs),))


def _product_part(left: torch.Tensor, right: torch.Tensor, output: Sizes, fixed: Fixed) -> Part:
    """The line of a product: of a matrix of weights, of one for every position, or of two activations."""
    columns = right.shape[-1] if right.dim() > 1 else 1
    macs, inner = left.numel() * columns, left.shape[-1]
    weight = right if fixed(right) else left if fixed(left) else None
    if weight is None:
        return Part("matmul", "", output=output, macs=macs)
    outputs = columns if weight is right else left.shape[-2] if left.dim() > 1 else 1
    stack = [n for n, step in zip(weight.shape[:-2], weight.stride(), strict=False) if n > 1 and step]  # not expanded
    if not stack:
        return Part("fc", "", (), inner, outputs, 1, output, macs)
    return local_part("", math.prod(stack), (), inner, outputs, output, macs)


def _pool(name: str, args: Sequence[Any], given: Sizes, output: Sizes) -> Part | None:
    """Pooling with a window, to a size, or the mean over all of space; torch pools 1-D maps as 2-D ones of height 1."""
    if name == "mean":
        axes = {axis % len(given) for axis in (args[1] if len(args) > 1 and args[1] else ())} if given else set()
        over_space = len(given) > 2 and axes == set(range(2, len(given))) and given != output
        return Part("globalpool", "", output=(*given[:2], *(1 for _ in given[2:]))) if over_space else None
    rank = 3 if "3d" in name else 2
    flat = rank == 2 and given[-2] == output[-2] == 1
    before, after = ((*given[:-2], given[-1]), (*output[:-2], output[-1])) if flat else (given, output)
    if name in ADAPTIVE:
        return pooled_to("", ADAPTIVE[name] == "pool", before, after)
    window = tuple(args[1]) * (rank if len(args[1]) == 1 else 1)
    if set(window) == {1} and given == output:
        return None
    return Part(POOLS[name], "", window[1:] if flat else window, output=after)
