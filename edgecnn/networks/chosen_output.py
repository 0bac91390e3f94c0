"""Of a network with several outputs the one that counts: by `--answer`, by `answer` on its class, or by its task.

    {"out": ..., "aux": ...}  --answer out   ->  the tensor of that key; nothing that only the others need is exported
    (main, deep)              --answer 0     ->  the tensor at that place
    {"logits": ..., "loss": None}            ->  the only one
    either, a task stated                    ->  `out` or `logits`, else the first that fits it, and a line that says so

A hook on a shallow copy picks it, so that the names of modules and weights stay, and so does the given module.
Test: tests/test_chosen_output.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from edgecnn import meaning
from edgecnn.networks import callables
from edgecnn.networks.forward import listed
from edgecnn.networks.network import Network
from edgecnn.networks.probing import probe
from edgecnn.networks.spec import Blueprint
from edgecnn.tasks import IMAGE, KEYPOINTS, MULTI_LABEL, OTHER, SEGMENTATION
from runtimes import plugins
from runtimes.base import BadInput
from runtimes.comparing.matching import NAMES as DETECTIONS
from runtimes.imaging.answered import is_picture
from runtimes.imaging.keypoints import is_points
from runtimes.imaging.maps import is_map

MAIN = ("out", "logits")
"""What the output that counts is usually called, where others stand beside it."""
NOTHING = (str, int, float, type(None))
"""What says nothing beside an output."""
HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")


@dataclass(frozen=True)
class Pick:
    """A hook behind a network's forward: of several outputs the one called `name`."""

    name: str

    def __call__(self, module: nn.Module, given: Any, made: Any) -> Any:
        return parts_of(made).get(self.name, made)


def parts_of(made: Any) -> dict[str, Any]:
    """The outputs in `made` by the names that they are chosen by: keys of a dict, fields of a dataclass, places of a
    tuple or list.

    >>> parts_of({"out": 1, "aux": 2}), parts_of((1, 2)), parts_of(1)
    ({'out': 1, 'aux': 2}, {'0': 1, '1': 2}, {})
    """
    if isinstance(made, Mapping):
        return {str(name): value for name, value in made.items()}
    if is_dataclass(made):
        return {field.name: getattr(made, field.name) for field in fields(made)}
    return {str(i): value for i, value in enumerate(made)} if isinstance(made, tuple | list) else {}


def picking(module: nn.Module, name: str) -> nn.Module:
    """`module` that answers with its output `name` alone; the given one stays as it is, its layers are shared."""
    made = copy.copy(module)
    for kind in HOOKS:  # which the copy would share too
        setattr(made, kind, copy.copy(getattr(module, kind)))
    made.register_forward_hook(Pick(name))
    return made


def answering(
    network: Network, plan: Blueprint, told: str | int | None, called: str, by_task: bool = True
) -> tuple[Network, Any]:
    """(`network` with the output that counts alone, `said` a line where nobody `told` it; its answer to one picture).

    A stated task chooses where it may (`by_task`). Raises `BadInput` for an output that is not there.
    """
    made = probe(network)
    parts = parts_of(made)
    name = str(told) if told is not None else plan.answer if parts else None
    if name is not None:
        _require(parts, name, f"--answer {name}" if told is not None else f"{plan.source or plan.name}.answer {name}")
        return _keeping(network, name, "")
    something = [name for name, value in parts.items() if not isinstance(value, NOTHING)]
    if by_task and len(something) == 1 and isinstance(parts[something[0]], torch.Tensor):
        return _keeping(network, something[0], "")
    usable = by_task and plan.tasked and not _detects(made)
    name = chosen(plan.task, parts, network.planes[1:]) if usable else None
    if name is None:
        if by_task:
            _require_tensors(made, parts, called)
        return network, made
    others = [other for other in parts if other != name]
    line = f"{called}: answers with {listed(parts)}; for {plan.task} {name} is kept and {listed(others)} left out"
    return _keeping(network, name, f"{line}; --answer NAME says otherwise")


def _require_tensors(made: Any, parts: Mapping[str, Any], called: str) -> None:
    """Raise `BadInput` for an answer that holds something else, as numbers, arrays of numpy and unknown classes are."""
    if not (others := _others(made)):
        return
    usable = [name for name, value in parts.items() if value is not None and not _others(value)]
    keep = f"--answer NAME keeps one of {listed(usable)}, or" if usable else "mend its forward to"
    what = callables.a(type(others[0]).__name__)
    raise BadInput(
        f"{called}: answers with {what}, which torch does not export; {keep} return tensors, in a dict or tuple"
    )


def _others(made: Any) -> list[Any]:
    """What in an answer is no tensor."""
    return [value for value in pytree.tree_leaves(made) if not isinstance(value, torch.Tensor | None)]


def _keeping(network: Network, name: str, line: str) -> tuple[Network, Any]:
    network = replace(network, module=picking(network.module, name), said=line)
    return network, probe(network)


def chosen(task: str, parts: Mapping[str, Any], sides: tuple[int, ...] = ()) -> str | None:
    """The name among `parts` of the output that fits the `task`; None where none does.

    Of maps that have no known name the first with the `sides` of the picture: only those are scored pixel by pixel. Of
    heatmaps of one shape the last: each stack of an hourglass refines those before it.
    """
    fits = FITS.get(task)
    found = {name: value for name, value in parts.items() if fits and isinstance(value, torch.Tensor) and fits(value)}
    named = [name for name in MAIN if name in found]
    sized = [name for name, value in found.items() if task == SEGMENTATION and sides in _sides(value)]
    alike = task == KEYPOINTS and len({tuple(value.shape) for value in found.values()}) == 1
    return next(iter((*named, *sized, *(reversed(found) if alike else found))), None)


def _sides(value: torch.Tensor) -> tuple[tuple[int, ...], ...]:
    """What may be height and width of a map, with channels first, or last or none."""
    shape = tuple(value.shape)
    return shape[2:], shape[1:3]


def unused(plan: Blueprint, made: Any, means: str, called: str) -> str:
    """That the stated task is not used for a network whose answer `made` `means` no known one; empty where it is."""
    if not plan.tasked or means == plan.task or means != OTHER:
        return ""
    shapes = [tuple(value.shape) for value in pytree.tree_leaves(made) if isinstance(value, torch.Tensor)]
    return meaning.not_used(called, plan.task, shapes)


def with_answer(plan: Blueprint, said: object) -> Blueprint:
    """`plan` with the output that its code names, by a key or a place."""
    named = isinstance(said, str | int) and not isinstance(said, bool)
    return replace(plan, answer=str(said) if named else None)


def _require(parts: Mapping[str, Any], name: str, where: str) -> None:
    if not parts:
        raise BadInput(f"{where}: the network has one output; leave it out")
    if name not in parts:
        raise BadInput(f"{where}: {plugins.unknown(name, parts, 'output')}")
    if not isinstance(parts[name], torch.Tensor):
        tensors = [other for other, value in parts.items() if isinstance(value, torch.Tensor)]
        way = f"choose among {listed(tensors)}" if tensors else "leave it out"
        raise BadInput(f"{where}: is a {type(parts[name]).__name__}, not one tensor; {way}")


def _detects(made: Any) -> bool:
    """Whether `made` are a detector's outputs, which belong together: boxes (M, 4) and three more."""
    values = [value for value in pytree.tree_leaves(made) if isinstance(value, torch.Tensor)]
    return len(values) == len(DETECTIONS) and values[0].ndim == 2 and values[0].shape[1] == 4


def _has_rank_2(value: torch.Tensor) -> bool:
    return value.ndim == 2 and value.is_floating_point()


def _has_maps(value: torch.Tensor) -> bool:
    whole = not value.is_floating_point()
    return value.ndim == 4 if not whole else is_map(value.shape[1:], whole)


def _has_picture(value: torch.Tensor) -> bool:
    return value.ndim == 4 and is_picture(value.shape[1:])


def _has_points(value: torch.Tensor) -> bool:
    return value.is_floating_point() and is_points(value.shape[1:])


FITS: dict[str, Callable[[torch.Tensor], bool]] = {
    "classification": _has_rank_2,
    MULTI_LABEL: _has_rank_2,
    SEGMENTATION: _has_maps,
    IMAGE: _has_picture,
    KEYPOINTS: _has_points,
}
"""Regression takes all outputs as they are."""
