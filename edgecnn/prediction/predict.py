"""Use a bundle: predictions for images and arrays, and the proof that it works here. Never imports torch.

    image file, uint8 array  --the bundle's preprocessing-->  float32 (C, H, W)  --model-->  classes, a mask, or boxes

A float array is taken as ready input, (C, H, W) or (N, C, H, W); a folder is all images below it. The work is done by
what a device does it with: runtimes/proof/prediction.py, runtimes/proof/verification.py. Test: tests/test_predict.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edgecnn.data.built_in import built_in
from edgecnn.data.given import given
from edgecnn.data.load import load_data
from exporters.device_code import device_code, hashes
from runtimes.base import Array, Track, silent
from runtimes.bundle import Bundle
from runtimes.imaging.images import read_image
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.shown import Shown, of_array, of_file, takes
from runtimes.proof import prediction, verification
from runtimes.proof.prediction import RunReport, opened_to_run, ready_of
from runtimes.proof.verification import VerifyReport

LISTS = (".json", ".txt")
"""Files that name pictures (edgecnn/data/layouts.py)."""
Source = str | os.PathLike[str] | Array
"""A file, or images that are in memory already."""


def run(
    bundle: str | os.PathLike[str],
    inputs: Sequence[Source] | Source,
    *,
    provider: str = "cpu",
    threads: int | None = None,
    require_all: bool = False,
    top: int = 5,
    min_score: float = 0.3,
    input_shape: str | None = None,
    save: str | os.PathLike[str] | None = None,
    force: bool = False,
    track: Track = silent,
) -> RunReport:
    """What `bundle` answers for every image in `inputs`, files or arrays: its `top` classes, a mask, or boxes.

    Masks and boxes are in the original image where one is given (pictures and uint8 arrays), else in the network's
    input; boxes score `min_score` or more. A bundle of open size sees images as `input_shape` says, else as it was
    built. `save` is a folder for pictures. `require_all`: every node must run on `provider`. An input that cannot be
    read is in the report's `unread`, beside the answers of the others; `BadInput` is raised where there are no others.
    Raises `BadInput`, `Unavailable`, `CheckFailed`.
    """
    opened = opened_to_run(Path(bundle), input_shape)
    sources = [inputs] if isinstance(inputs, str | os.PathLike | np.ndarray) else list(inputs)
    given = [one for i, source in enumerate(sources) for one in shown(source, opened, f"array {i}")]
    how = prediction.How(provider, threads, require_all, top, min_score, save, force)
    return prediction.run(opened, given, how, os.fspath(bundle), track)


def verify(bundle: str | os.PathLike[str], *, provider: str = "cpu", threads: int | None = None) -> VerifyReport:
    """Prove `bundle` on this machine; the report says whether its outputs hold, and whose the code packed in it is.

    Raises `CheckFailed` when a member is damaged or was changed after packing and `BadInput` for what is no bundle.
    """
    return verification.verify(bundle, provider, threads, lambda: hashes(device_code()))


def shown(source: Source, bundle: Bundle, array_name: str = "array") -> list[Shown]:
    """Every image that `source` names: a picture, an array (or its file), or any DATA."""
    ready = ready_of(bundle)
    if isinstance(source, np.ndarray):
        return of_array(array_name, source, ready)
    path, spec = Path(source), given(source)
    if takes(path):
        return of_file(path, ready, str(bundle.path))
    samples = load_data(spec, ready, task=bundle.task)
    named = isinstance(spec, str) and built_in(spec) is not None
    originals = isinstance(ready, Preprocess) and not named and (path.is_dir() or path.suffix in LISTS)
    return [
        Shown(
            samples.ids[i],
            partial(samples.__getitem__, i),
            partial(read_image, samples.ids[i]) if originals else None,
            bundle.preprocess,
        )
        for i in range(len(samples))
    ]
