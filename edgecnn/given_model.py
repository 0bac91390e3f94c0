"""What a call is given as a model: a path, the name of a PyTorch network, or the `torch.nn.Module` itself.

Never imports torch: whoever has a module has imported it. Test: tests/test_given_model.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

from runtimes.base import BadInput
from runtimes.execution.model_file import is_model_file

if TYPE_CHECKING:
    from torch import nn

    from edgecnn.networks.forward import InputShape
    from runtimes.execution.shapes import ShapeText

    Given = str | os.PathLike[str] | nn.Module
    Source = str | nn.Module


def source_of(model: Given) -> Source:
    """A path or a name as text, a module as it is; raises `BadInput` for what is neither."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    if is_module(model):
        return model
    raise BadInput(f"model: is a {type(model).__name__}; give a path, the name of a network, or a torch.nn.Module")


def is_module(model: object) -> bool:
    """Whether `model` is a PyTorch network in memory."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def is_file(source: Source) -> bool:
    """Whether `source` is the name of a model file."""
    return isinstance(source, str) and is_model_file(source)


def called(source: Source) -> str:
    """The name of `source` in a report: the text that was given, or the class of a module."""
    return source if isinstance(source, str) else type(source).__name__


def shape_text(shape: InputShape | None) -> ShapeText | None:
    """The shape of an input, or of each by its name, as commands spell it.

    >>> shape_text((3, 8, 8)), shape_text({"a": (3, 8, 8), "b": (4,)}), shape_text("3,8,8")
    ('3,8,8', ['a:3,8,8', 'b:4'], '3,8,8')
    """
    if shape is None or isinstance(shape, str):
        return shape
    if isinstance(shape, Mapping):
        return [
            f"{name}:{sizes if isinstance(sizes, str) else ','.join(map(str, sizes))}" for name, sizes in shape.items()
        ]
    texts = list(map(str, shape))
    return ",".join(texts) if texts and all(isinstance(size, Integral) for size in shape) else texts


def refuse_module(model: object, command: str, why: str) -> None:
    """Raise `BadInput` where `model` is a module, which `command` cannot take."""
    if is_module(model):
        raise BadInput(f"{type(model).__name__}: is a torch.nn.Module; {command} {why}")
