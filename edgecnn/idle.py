"""Arguments that would do nothing beside the others of their call: refused in one line, not taken in silence.

    edgecnn bench m.onnx --tolerance 0.1      no --baseline, so nothing is held to it      ->  BadInput

Only what was given counts: what is written on the command line, and in Python a value that is not the default. What
depends on a model or on data is told where that is opened (`num_classes` in training/lesson.py, `label_smoothing` in
training/train.py, `batch` in evaluation/evaluate.py, `top` and `min_score` in runtimes/proof/prediction.py).
Test: tests/test_idle.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runtimes.base import BadInput

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Idle:
    """`names` of arguments that do nothing `where` that holds of all arguments of the call; `why` ends the line about
    one that was given, and may name the values of others in braces.
    """

    names: tuple[str, ...]
    where: Callable[[Arguments], bool]
    why: str


def missing(name: str) -> Callable[[Arguments], bool]:
    """Whether the argument `name` was left out, or is empty."""
    return lambda all: all[name] is None or all[name] is False


def on_gpu(all: Arguments) -> bool:
    return str(all["provider"]).partition(":")[0] != "cpu"


def for_tensorrt(all: Arguments) -> bool:
    return bool(all["target"] == "tensorrt")


def chosen_boxes(all: Arguments) -> bool:
    """Whether the boxes of the head are answers already."""
    from edgecnn.detection.raw import CHOSEN, Head

    return Head.of(all["head"]).kind == CHOSEN


BROKEN = Idle(("skip_unreadable",), missing("data"), "is for pictures of --data; give that too, or leave it out")
IDLE: dict[str, tuple[Idle, ...]] = {
    "bench": (
        Idle(("tolerance",), missing("baseline"), "is for what --baseline holds; give that too, or leave it out"),
    ),
    "build": (
        Idle(("target", "portable", "input", "dynamic_size", "all_int8", "keep_float", "calibrator", "allow_slower"),
             on_gpu, "does nothing with --provider {provider}; leave one of the two out"),
        Idle(("search_budget",), lambda all: on_gpu(all) and all["search_budget"] > 0,
             "does nothing with --provider {provider}, where the search is over in seconds; leave it out"),
    ),
    "check": (BROKEN,),
    "decode": (
        Idle(("iou", "best_class"), chosen_boxes, "does nothing with --head {head}, whose boxes are chosen in the "
             "network; leave it out"),
    ),
    "diff": (BROKEN,),
    "evaluate": (
        Idle(("labels",), lambda all: all["metric"] is not None, "does nothing with --metric, which is told no names; "
             "leave one of the two out"),
    ),
    "export": (
        Idle(("provider",), lambda all: on_gpu(all) and not all["fp16"], "says where --fp16 is raced; add --fp16, or "
             "leave it out"),
        Idle(("allow_slower",), missing("fp16"), "is for --fp16; add that, or leave it out"),
    ),
    "quantize": (
        Idle(("search_budget", "allow_slower", "all_int8"), for_tensorrt, "does nothing with --target tensorrt, for "
             "which nothing is searched or raced here; leave it out"),
    ),
    "train": (
        Idle(("resume",), lambda all: all["qat"] and all["weights"] is not None, "does nothing with --qat and "
             "--weights together, which keep no epochs to go on from; leave it out"),
    ),
}  # fmt: skip
"""By the name of the call."""


def refuse_idle(call: str, given: Iterable[str], all: Arguments) -> None:
    """Raise `BadInput` for the first of the arguments `given` to `call` that does nothing beside `all` of them."""
    told = set(given)
    for idle in IDLE.get(call, ()):
        for name in idle.names:
            if name in told and idle.where(all):
                raise BadInput(f"--{name.replace('_', '-')}: {idle.why.format_map(all)}")
