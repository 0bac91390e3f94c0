"""The arguments of `python NAME.edge`, read by argparse: a device has no click. Same names and limits as `edgecnn`'s.

Test: tests/test_device_bundle.py.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable
from typing import Any, NoReturn

from runtimes.base import BadInput

NO_LIMIT, MOST_THREADS = 2**63 - 1, 1024
_REQUIRED, _UNKNOWN = "the following arguments are required: ", "unrecognized arguments: "
USES = {
    "run": "Predict images (files, or arrays in .npy and .npz): classes, masks, boxes, points, pictures.",
    "verify": "Check every hash, and the outputs here against the original network's, packed beside the model.",
    "settle": "Race the int8 graph and the float graph here, and write a bundle with the one to use (--keep-float).",
    "bench": "Measure latency, load time, memory and kernels here; a second graph is raced, interleaved.",
}


class Parser(argparse.ArgumentParser):
    """Raises `BadInput` in one line where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        helper = f"see `{self.prog} --help`"
        if message.startswith(_REQUIRED):
            raise BadInput(f"{message.removeprefix(_REQUIRED)}: is missing; {helper}")
        if message.startswith(_UNKNOWN):
            name = message.removeprefix(_UNKNOWN).split(" ")[0].partition("=")[0]
            if not name.startswith("-"):
                raise BadInput(f"{message.removeprefix(_UNKNOWN)}: more than the command takes; {helper}")
            known = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise BadInput(f"{name}: unknown option; {hint}{helper}")
        raise BadInput(f"{message.removeprefix('argument ')}; {helper}")


def parser(program: str, command: str) -> Parser:
    """Of `command`, for a bundle that was started as `program`."""
    found = Parser(f"{program} {command}", description=USES[command], allow_abbrev=False)
    {"run": _run, "verify": _nothing, "bench": _bench, "settle": _settle}[command](found.add_argument)
    _machine(found.add_argument, threads=1 if command == "settle" else None)
    found.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    return found


def _run(add: Callable[..., Any]) -> None:
    add("inputs", metavar="IMAGE", nargs="+", help="a picture, .npy or .npz file; - for one from standard input")
    add("--top", type=whole(1), metavar="N", help="how many classes for each image (default: 5)")
    add("--min-score", type=share, metavar="SHARE", help="of boxes that are shown (default: 0.3)")
    add("--input-shape", metavar="SHAPE", help="height and width, as in 3,480,640; for a bundle of open size")
    add("--jsonl", action="store_true", help="print a line of JSON for each image as it is answered")
    add("--save", metavar="DIR", help="folder for pictures of masks, boxes and points; takes Pillow")
    add("--force", action="store_true", help="replace existing pictures")
    add("--require-all", action="store_true", help="fail when a node runs anywhere but on --provider")


def _nothing(add: Callable[..., Any]) -> None:
    """No arguments but those of all commands."""


def _bench(add: Callable[..., Any]) -> None:
    add("models", metavar="MODEL", nargs="*", help="raced against the bundle: an .onnx file or another bundle")
    add("--batch", type=whole(1), default=1, metavar="N", help="images at once (default: 1)")
    add("--input-shape", action="append", default=[], metavar="SHAPE", help="e.g. 3,224,224 or 1,3,224,224; repeatable")
    add("--iterations", type=whole(2), metavar="N",
        help="timed runs of each model; default: up to 1,000 in up to ten seconds")  # fmt: skip
    add("--warmup", type=whole(0), default=10, metavar="N", help="runs before the clock starts (default: 10)")
    add("--seed", type=whole(0), default=0, metavar="N", help="the same seed gives the same inputs")


def _settle(add: Callable[..., Any]) -> None:
    add("-o", "--output", required=True, metavar="BUNDLE", help="the bundle to write (.edge)")
    add("--force", action="store_true", help="replace an existing bundle")
    add("--seed", type=whole(0), default=0, metavar="N", help="of the order in which the two run")


def _machine(add: Callable[..., Any], threads: int | None) -> None:
    add("--provider", default="cpu", metavar="NAME", help="where to run: cpu, cuda, or with options cuda:use_tf32=1")
    usual = "the processors this process may use" if threads is None else threads
    add("--threads", type=whole(1, MOST_THREADS), default=threads, metavar="N", help=f"default: {usual}")


def whole(least: int, most: int = NO_LIMIT) -> Callable[[str], int]:
    """Reads a whole number from `least` to `most`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,20}", text) or not least <= int(text) <= most:
            limits = f"of {least} or more" if most == NO_LIMIT else f"from {least} to {most:,}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}")
        return int(text)

    return read


def share(text: str) -> float:
    """Reads a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value
