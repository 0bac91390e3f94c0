"""Which part of some data is for what: training and calibration see one, evaluation and the verdict on int8 the other.

    parts of its own: train/ and val/, built-in data    train and test
    one set as --calib and as --data                    four fifths and the fifth of edgecnn/data/samples.py
    a set that the model has learned from               the same, as training cut it            (fingerprint.py)
    any other set                                       all of it

Test: tests/test_layouts.py, tests/test_built_in.py, tests/test_seen_before.py.
"""

from __future__ import annotations

from pathlib import Path

from edgecnn.data.built_in import built_in
from edgecnn.data.data_argument import InMemory, Spec
from edgecnn.data.layouts import has_parts


def part(wanted: str, spec: Spec, other: Spec | None, learned: bool = False) -> str:
    """`wanted` (train or test) of a set that has parts, that serves as both, or that the model has `learned` from; all
    of any other set.
    """
    if isinstance(spec, InMemory):
        return wanted if spec == other or learned else "all"
    named = built_in(spec)
    if named is not None:
        return "all" if named.startswith("random") else wanted
    parted = spec == other or (Path(spec) / "train").is_dir() or has_parts(Path(spec))
    return wanted if parted or learned else "all"
