"""Which channels of a padded tensor the network itself has, kept in the model's metadata until it is quantized.

    a: 27 channels of 28     "edgecnn.padding": {"a.padded": [[0, 27]]}

A rewrite that fills channels up with zeros says so here, so that what counts channels counts those of the network.
Test: tests/test_calibration.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import onnx

from exporters.graph import get_meta, set_meta
from runtimes.base import Array

KEY = "edgecnn.padding"


def note(model: onnx.ModelProto, places: Mapping[str, Array]) -> None:
    """Write down the `places` (channels,) of the network's own channels among those of each padded tensor."""
    told = {name: _spans(own) for name, own in {**noted(model), **places}.items()}
    if told:
        set_meta(model, {KEY: json.dumps(told, sort_keys=True)})


def note_renamed(model: onnx.ModelProto, names: Mapping[str, str], places: Mapping[str, Array]) -> None:
    """The same by the old names of tensors, whose channels were perhaps padded before, and are now at `places`."""
    before = noted(model)
    note(model, {names[old]: now[before.get(old, ...)] for old, now in places.items()})


def noted(model: onnx.ModelProto) -> dict[str, Array]:
    """Places of the network's own channels by padded tensor."""
    told = json.loads(get_meta(model).get(KEY, "{}"))
    return {name: np.concatenate([np.arange(*span) for span in spans]) for name, spans in told.items()}


def forget(model: onnx.ModelProto) -> None:
    """Drop the note: the model is done."""
    kept = [(p.key, p.value) for p in model.metadata_props if p.key != KEY]
    del model.metadata_props[:]
    for key, value in kept:
        model.metadata_props.add(key=key, value=value)


def _spans(places: Array) -> list[list[int]]:
    """
    >>> _spans(np.array([0, 1, 4, 5, 6]))
    [[0, 2], [4, 7]]
    """
    runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
    return [[int(run[0]), int(run[-1]) + 1] for run in runs]
