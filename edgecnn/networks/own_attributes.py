"""What a network's own code says of it: attributes of the callable, of the module that it makes, and of its file.

    input_shape   (C, H, W), or without pictures  preprocess   a dict with the settings of a preprocess file,
                                                               or the name of a preset
    input_shapes  the same of several inputs, by the names of forward's parameters
    labels        names, in order of the outputs  task         a file of edgecnn/tasks, or a task without one (NUMBERS)
    answer        which of several outputs counts: a key of the dict, or the place in the tuple (chosen_output.py)
    decode        the raw head that it answers with, a name or a dict (edgecnn/detection/raw.py)

The nearest that says something counts: a function before the module that it returns, that before the file that it
stands in, and that before the library of the module. A class is its modules' already. A value that is no such thing (a
method, a tensor) says nothing.
Test: tests/test_own_attributes.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from torch import nn

import edgecnn.tasks
from edgecnn.data.pixels import NAMES, read_preprocess, refuse_pixel_units
from edgecnn.detection.raw import Head
from edgecnn.networks.axes import axes_of
from edgecnn.networks.chosen_output import with_answer
from edgecnn.networks.forward import refuse_for
from edgecnn.networks.spec import Blueprint, Shape, planes_of, sizes_in, without_batch
from runtimes.base import BadInput
from runtimes.imaging.preprocess import FLOAT32, FLOAT32_NHWC, UINT8_NHWC, Preprocess, layout_of

KINDS: dict[str, tuple[type, ...]] = {
    "input_shape": (str, list, tuple),
    "input_shapes": (Mapping,),
    "preprocess": (Mapping, Preprocess, str),
    "labels": (list, tuple),
    "task": (str,),
    "answer": (str, int),
    "decode": (str, Mapping),
}


def carried(
    plan: Blueprint, module: nn.Module, task_told: str | None = None, library: Mapping[str, Any] | None = None
) -> Blueprint:
    """`plan` with what the code behind it says; one of the zoo or of a library is known already and stays as it is.

    `library`: the same attributes as the library of the module says them, which count where the user's code is silent
    and names no several inputs.

    Code from elsewhere may mean something else by `task`, which does not matter where the user has `task_told`.
    Raises `BadInput` for an attribute that is of its kind but cannot be, as a preprocess with an unknown setting.
    """
    if plan.ours:
        return plan
    own = [module, plan.home] if inspect.isclass(plan.target) else [plan.target, module, plan.home]
    owners = own if shapes(own)[1] else [*own, SimpleNamespace(**(library or {}))]
    found = {name: attribute(owners, name) for name in KINDS}
    said, task = found["preprocess"], found["task"]
    named = said if isinstance(said, str) and said in NAMES else ""  # another text may mean something else
    said = None if isinstance(said, str) else said
    if task_told is None:
        edgecnn.tasks.require(task, f"{plan.source or plan.name}.task")
    told, several = shapes(owners)
    if (named or said is not None) and len(several) > 1:
        refuse_for(several, f"{plan.source or plan.name}.preprocess")
    axes = axes_of(module)
    shape = None if told is None else without_batch(sizes_in(told), axes)
    return replace(
        with_answer(plan, found["answer"]),
        input_shape=shape,
        input_shapes={str(name): without_batch(sizes_in(sizes), axes) for name, sizes in several.items()},
        preprocess=pixels(said, shape, plan.source or plan.name),
        preset=named,
        any_channels=isinstance(said, Mapping) and "channels" not in said,
        labels=tuple(str(label) for label in found["labels"] or ()),
        decode=None if found["decode"] is None else head_of(found["decode"], plan.source or plan.name),
        task=task or plan.task,
        tasked=task is not None,
    )


def shapes(owners: Sequence[Any]) -> tuple[Any, Mapping[str, Any]]:
    """(`input_shape`, `input_shapes`) of the first of `owners` that says one of them; several go before one."""
    for owner in owners:
        several, one = (attribute([owner], name) for name in ("input_shapes", "input_shape"))
        if several or one is not None:
            return (None, several) if several else (one, {})
    return None, {}


def head_of(said: str | Mapping[str, Any], where: str) -> Head:
    """The head that `decode` names; raises `BadInput` that says where it stands."""
    try:
        return Head.of(said)
    except BadInput as error:
        raise BadInput(f"{where}.{error}") from error


def pixels(said: Mapping[str, Any] | Preprocess | None, shape: Shape | None, where: str) -> Preprocess | None:
    """The preprocessing that `said` is; its size is that of the input where it does not say one itself: (C, H, W), or
    (H, W, C) where its `input` says so.
    """
    if isinstance(said, Mapping):
        last = said.get("input") in (FLOAT32_NHWC, UINT8_NHWC)
        size = {} if shape is None else {"size": planes_of(shape, last)[1:]}
        try:
            said = Preprocess.from_dict({**size, **said})
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error
    if said is not None:
        refuse_pixel_units(said, f"{where}.preprocess")
    return said


def preset(name: str, shape: Shape, where: str) -> Preprocess:
    """The preset `name` for an input of `shape`, (C, H, W) or (H, W, C); `BadInput` says where it stands."""
    last = layout_of(shape) == "NHWC"
    try:
        return read_preprocess(name, planes_of(shape, last), FLOAT32_NHWC if last else FLOAT32)
    except BadInput as error:
        raise BadInput(str(error).replace("--preprocess", where, 1)) from error


def attribute(owners: Sequence[Any], name: str) -> Any:
    """`name` of the first of `owners` that has one of its kind; None where nobody has."""
    for owner in owners:
        try:
            value = getattr(owner, name, None)
        except Exception:  # a property that needs more than there is
            continue
        if isinstance(value, KINDS[name]):
            return value
    return None
