"""A network whose code does not say its task, with the task that its answers and the data speak for.

    network --a few images--> answers      answers, labels, last operator -> task      (edgecnn/meaning.py)

Test: tests/test_meaning.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgecnn import doubts, meaning
from edgecnn.choosing.model_identity import is_binary
from edgecnn.data.samples import Samples
from edgecnn.networks.sources import SEED, Network
from edgecnn.tasks import KEYPOINTS, MULTI_LABEL, NUMBERS, REGRESSION, SEGMENTATION
from exporters.ending import SIGMOID
from runtimes.base import Tensors
from runtimes.comparing.two_classes import class_count, is_one_score


def meant(network: Network, data: Samples | None = None, calibration: Samples | None = None) -> tuple[Network, str]:
    """(`network` with the task that is assumed where nobody said it, the line about that; empty where it is clear).

    `data` has labels that were meant as such; those of `calibration` count where no folders made them.
    """
    if network.maps is not None:
        return _segmenting(network, data)
    if network.task == KEYPOINTS:
        called = network.source or network.name
        return network, doubts.of_ends(called, _answers(network, calibration), network.preprocess)
    if network.tasked or network.classes is None or network.task != meaning.CLASSES:
        return network, ""
    answers = _answers(network, calibration)
    if answers.ndim > 2:
        return network, ""
    shape = ("N", *answers.shape[1:])
    given = [data, None if calibration is None or Path(calibration.name).is_dir() else calibration]
    labelled = any(samples is not None and meaning.fits(samples.labels, shape) for samples in given)
    called = network.source or network.name
    task, line = meaning.of_answers(called, shape, network.ending, answers, labelled, len(network.labels))
    classes = class_count(shape) if task not in NUMBERS else None if is_one_score(shape) else network.classes
    return replace(network, task=task, classes=classes), line


def may_be(network: Network) -> str:
    """The task that it has where it is no classifier, which `y` of the data tells: for one number or two, which may be
    one score of two classes, and for numbers behind a Sigmoid. Empty where that is no question.
    """
    if network.tasked or network.task != meaning.CLASSES:
        return ""
    several = network.classes is not None and network.classes > 2 and network.ending == SIGMOID
    return MULTI_LABEL if several else REGRESSION if network.classes == 2 else ""


def _answers(network: Network, samples: Samples | None) -> np.ndarray:
    """To a few images of the data; to drawn ones where there are none."""
    if samples is None:
        rng = np.random.default_rng(SEED)
        feeds: list[Tensors] = [network.made(1, rng) for _ in range(meaning.SEEN // 2)]
    else:
        shown = samples.subset(range(min(meaning.SEEN, len(samples))))
        feeds = [*shown.feeds(network.inputs[0].name)]
    found = [network.answer(feed).numpy() for feed in feeds]
    alike = len({answer.shape[1:] for answer in found}) == 1
    return np.concatenate(found) if alike else found[0]  # how large an answer is may depend on the numbers in it


def _segmenting(network: Network, data: Samples | None) -> tuple[Network, str]:
    """`network` as a segmenter where it answers with maps and `data` has masks; one map is for masks of two classes."""
    binary = is_binary(data) if data is not None else None
    if binary is not None and network.maps is not None and (network.maps > 1 or binary):
        network = replace(network, task=SEGMENTATION, classes=max(2, network.maps))
    return network, doubts.of_task(network)
