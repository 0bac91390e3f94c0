"""What a bundle says of itself, in a few lines: network, task, input, answers, chosen graph, the race that chose it.

A manifest is believed in what `runtimes/proof/manifest.py` checks; all else is shown where it is text. Test:
tests/test_device_bundle.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runtimes.base import counted, one_line
from runtimes.bundle import Bundle
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof.answers import EMBEDDING, IMAGE, KEYPOINTS, REGRESSION, TASKS
from runtimes.proof.manifest import verdict_of

MOST_LABELS = 10
LONGEST, LONGEST_VERDICT = 200, 500


def made(bundle: Bundle) -> str:
    """`NAME, made by edgecnn 1.2.3`."""
    return f"{bundle.name}, made by {bundle.manifest['created_by']}"


def described(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """(what, words) of each line."""
    manifest = bundle.manifest
    yield "network", one_line(made(bundle), LONGEST)
    yield "task", one_line(bundle.task, LONGEST)
    for entry in bundle.inputs:
        yield "input", one_line(f"{_tensor(entry)}{_pictures(bundle.preprocess)}", LONGEST)
    yield "output", one_line(_tensor(manifest["output"]), LONGEST)
    yield "answers", one_line(_answers(bundle), LONGEST)
    winner = manifest.get("winner")
    yield "graph", one_line(winner if isinstance(winner, str) else bundle.chosen, LONGEST)
    if bundle.keeps_float:
        yield "beside", "the float graph; `settle` chooses between the two on this machine"
    verdict = verdict_of(manifest)
    if verdict:
        yield "race", one_line(verdict, LONGEST_VERDICT)
    where = _machine(manifest.get("machine"))
    if where:
        yield "raced on" if manifest.get("race") else "built on", one_line(where, LONGEST)
    yield "proof", f"{counted(manifest['golden']['images'], 'input')} with the {bundle.original}'s own outputs"


def _machine(told: object) -> str:
    """`AMD EPYC (avx2, vnni)`: the processor, whose instructions decide what int8 gains; empty where none is told."""
    known = told if isinstance(told, dict) else {}
    cpu, isa = known.get("cpu"), known.get("isa")
    if not isinstance(cpu, str) or not cpu:
        return ""
    return f"{cpu} ({', '.join(map(str, isa))})" if isinstance(isa, list) and isa else cpu


def _answers(bundle: Bundle) -> str:
    if bundle.task not in TASKS:
        return "numbers, of no known task"
    plain = {REGRESSION: "numbers", EMBEDDING: "numbers", KEYPOINTS: "points"}.get(bundle.task)
    if plain:
        return f"{plain}, {_labels(bundle.labels)}" if bundle.labels else plain
    return "a picture" if bundle.task == IMAGE else _labels(bundle.labels)


def _tensor(tensor: dict[str, Any]) -> str:
    shape = tensor.get("shape")
    sizes = ", ".join(map(str, shape)) if isinstance(shape, list) else "?"
    return f"{tensor.get('name', '?')} {tensor.get('dtype', '?')} [{sizes}]"


def _pictures(preprocess: Preprocess | None) -> str:
    if preprocess is None:
        return ", arrays that are ready"
    kind = "grey" if preprocess.channels == 1 else "colour"
    last = ", channels last" if preprocess.channels_last else ""
    return f", {kind} pictures of {preprocess.size[0]} x {preprocess.size[1]}{last}"


def _labels(labels: tuple[str, ...]) -> str:
    if not labels:
        return "classes by number"
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return f"{len(labels)}: {', '.join(labels[:MOST_LABELS])}{more}"
