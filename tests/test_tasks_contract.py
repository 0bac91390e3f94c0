"""Every file in edgecnn/tasks keeps the folder's contract, and none of them imports torch to judge an .onnx file."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecnn import tasks
from edgecnn.data.load import load_data
from edgecnn.data.samples import Samples
from edgecnn.evaluation.scores import Agreement, Difference, Score
from edgecnn.networks.spec import unit_range
from runtimes.base import Array, BadInput, Tensors

TASKS = tasks.names()
SIDE = 16
READY = unit_range(SIDE, SIDE)
ROWS = ("regression", "embedding")
"""Compared as numbers where nobody knows the truth."""


def blind(name: str) -> object:
    """A network that gives the same answer to everything, in the form that the task asks for."""

    def run(feeds: Tensors) -> dict[str, Array]:
        n = len(feeds["x"])
        if name == "classification":
            return {"logits": np.tile(np.array([1.0, 0, 0]), (n, 1))}
        if name == "segmentation":
            return {"logits": np.tile(np.array([1.0, 0, 0, 0])[:, None, None], (n, 1, SIDE, SIDE))}
        if name == "multi-label":
            return {"logits": np.tile(np.array([1.0, 0, -1]), (n, 1))}
        if name == "image":
            return {"picture": np.zeros((n, 3, SIDE, SIDE), np.float32)}
        if name == "keypoints":
            return {"points": np.tile(np.array([0.1, 0.2, 0.9, 0.5]), (n, 1))}
        if name == "regression":
            return {"numbers": np.zeros((n, 2))}
        if name == "embedding":
            return {"embedding": np.ones((n, 4))}
        box = np.tile(np.array([4, 4, 12, 12], np.float32), (n, 1))
        return {"boxes": box, "scores": np.full(n, 0.9), "labels": np.zeros(n, int), "image": np.arange(n)}

    return run


def test_the_tasks() -> None:
    assert [*TASKS] == [
        "classification", "detection", "embedding", "image", "keypoints", "multi-label", "regression", "segmentation"
    ]  # fmt: skip
    with pytest.raises(BadInput, match="segmentatoin: unknown task; did you mean segmentation"):
        tasks.load("segmentatoin")
    with pytest.raises(BadInput, match="multi_label: unknown task; did you mean multi-label"):
        tasks.load("multi_label")
    with pytest.raises(BadInput, match="other: unknown task"):
        tasks.load("other")


def labelled(count: int, name: str) -> Samples:
    """Drawn shapes with answers for the task `name`."""
    samples = load_data(f"shapes:{count}", READY, task=name)
    rows = {
        "multi-label": np.arange(3 * len(samples)).reshape(-1, 3) % 2,
        "regression": np.arange(2.0 * len(samples)).reshape(-1, 2),
        "embedding": np.arange(len(samples)) % 3,
        "keypoints": np.arange(4.0 * len(samples)).reshape(-1, 2, 2) % SIDE,
    }
    if name == "image":
        return replace(
            samples.without_answers(), pictures=[np.full((SIDE, SIDE), 9 * i, np.uint8) for i in range(count)]
        )
    return replace(samples.without_answers(), truth=rows[name]) if name in rows else samples


@pytest.mark.parametrize("name", TASKS)
def test_contract(name: str) -> None:
    task = tasks.load(name)
    samples = labelled(12, name)
    assert task.has_answers(samples)
    assert not task.has_answers(samples.without_answers())
    found = task.score(blind(name), samples, "x", batch=5)
    assert isinstance(found, Score)
    assert (found.metric, found.images, len(found.per_sample)) == (task.METRIC, 12, 12)
    assert found.value < 1
    whole = found.resample(np.ones((1, 12)))
    assert whole == pytest.approx(found.value, abs=1e-9)  # pycocotools divides by a count plus 2e-16
    drop = task.drop(found, found)
    assert isinstance(drop, Difference)
    assert drop.value == 0
    assert drop.low <= 0 <= drop.high
    same = task.agreement(blind(name), blind(name), samples.without_answers().feeds("x", 5))
    changed = 0.0 if name in ("segmentation", "multi-label", "image", "keypoints") else None
    assert same == (None if name in ROWS else Agreement(1.0, 12, changed))
    with pytest.raises(BadInput, match=task.WANTED.split(",")[0].replace("(", r"\(").replace(")", r"\)")):
        task.score(blind(name), samples.without_answers(), "x")
    if not hasattr(task, "loss"):
        return  # not trained here
    for call in ("answers", "augment", "loss"):
        assert inspect.getdoc(getattr(task, call)) or call == "answers"
    (loss,) = ast.parse(inspect.getsource(task.loss)).body
    assert any(isinstance(node, ast.Name) and node.id == "smoothing" for node in ast.walk(loss)) is task.SMOOTHED


@pytest.mark.parametrize("name", TASKS)
def test_progress_goes_through_track(name: str) -> None:
    task, seen = tasks.load(name), []

    def track(items: object, label: str) -> object:
        seen.append((label, len(items)))  # type: ignore[arg-type]
        return items

    samples = labelled(7, name)
    task.score(blind(name), samples, "x", 2, track)
    boxes = [("listing boxes", 7), ("matching boxes", 3)] if name == "detection" else []
    found = task.score(blind(name), samples, "x")
    task.agreement(blind(name), blind(name), samples.feeds("x", 3), track)
    task.drop(found, found, track=track)
    draws = [] if name == "classification" else [("drawing images for the interval", 20)]
    assert seen == [("evaluating", 4), *boxes, *([] if name in ROWS else [("comparing", 3)]), *draws]


def test_no_task_imports_torch() -> None:
    script = (
        "import sys, numpy as np; from edgecnn import tasks\n"
        "from edgecnn.data.load import load_data\n"
        "from edgecnn.networks.spec import unit_range\n"
        "for n in tasks.names(): tasks.load(n)\n"
        "from edgecnn.tasks import detection as t\n"
        "z = np.zeros(0); run = lambda f: dict(boxes=np.zeros((0, 4)), scores=z, labels=z, image=z)\n"
        "t.score(run, load_data('shapes:3', unit_range(16, 16), task='detection'), 'x')\n"
        "print('torch' in sys.modules, 'onnx' in sys.modules)"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, timeout=60)
    assert done.stdout == "False False\n", done.stderr
