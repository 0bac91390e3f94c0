"""Use a bundle: predictions for images and arrays, and the proof that it works here. Never imports torch.

    image file, uint8 array  --the bundle's preprocessing-->  float32 (C, H, W)  --model-->  classes, a mask, or boxes

A network of several inputs is given an array for each, in an .npz file or a dict, as they are. A float array is taken
as ready input, (C, H, W) or (N, C, H, W); a folder is all images below it, whatever its
subfolders are called. The work is done by
what a device does it with: runtimes/proof/prediction.py, runtimes/proof/verification.py. Test: tests/test_predict.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeGuard, overload

import numpy as np

from edgecnn.data import layouts
from edgecnn.data.data_argument import InMemory, given
from edgecnn.data.folders import list_images
from edgecnn.data.load import load_data
from edgecnn.prediction.proofs import ProofsReport, proofs_of
from edgecnn.tasks import NUMBERS
from exporters.device_code import device_code, hashes
from runtimes.base import Array, BadInput, Track, silent
from runtimes.bundle import Bundle, open_bundle
from runtimes.imaging.arrays import Rows
from runtimes.imaging.depth import eight_bits
from runtimes.imaging.images import SUFFIXES, UNREAD, read_image
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.several import Several
from runtimes.imaging.shown import Ready, Shown, of_array, of_arrays, of_file, of_picture, takes, white_of
from runtimes.proof import prediction, verification
from runtimes.proof.prediction import RunReport, opened_to_run, ready_of
from runtimes.proof.verification import VerifyReport
from runtimes.session import Session

LISTS = (".json", ".txt", ".csv")
"""Files that name pictures (edgecnn/data/layouts.py)."""
StrPath = str | os.PathLike[str]
Source = StrPath | Array | Mapping[str, Array]
"""A file, or images that are in memory already; a dict has an array for each input of a network of several."""


def run(
    bundle: str | os.PathLike[str],
    inputs: Sequence[Source] | Source,
    *,
    provider: str = "cpu",
    threads: int | None = None,
    require_all: bool = False,
    top: int | None = None,
    min_score: float | None = None,
    input_shape: str | None = None,
    save: str | os.PathLike[str] | None = None,
    force: bool = False,
    track: Track = silent,
) -> RunReport:
    """What `bundle` answers for all images in `inputs`, files or arrays: `top` (5) classes, a mask, boxes or a picture.

    Masks and boxes are in the original image where one is given (pictures and uint8 arrays), else in the network's
    input; boxes score `min_score` (0.3) or more. A bundle of open size sees images as `input_shape` says, else as it
    was built, or each in its own size where it answers with pictures. `save` is a folder for pictures. `require_all`:
    every node must run on `provider`. An input that cannot be read is in the report's `unread`, beside the answers of
    the others; `BadInput` is raised where there are no others. Raises `BadInput`, `Unavailable`, `CheckFailed`.
    """
    how = prediction.How(provider, threads, require_all, top, min_score, save, force)
    return answered(opened_to_run(Path(bundle), input_shape), os.fspath(bundle), inputs, how, track)


def answered(
    bundle: Bundle,
    name: str,
    inputs: Sequence[Source] | Source,
    how: prediction.How,
    track: Track,
    session: Session | None = None,
) -> RunReport:
    """What `run` reports of a `bundle` that is open, which the user calls `name`, and of its `session` where it is."""
    sources = [inputs] if isinstance(inputs, str | os.PathLike | np.ndarray | Mapping) else list(inputs)
    names = [os.fspath(source) if _is_file(source) else f"array {i}" for i, source in enumerate(sources)]
    found = prediction.gathered(
        zip(names, sources, strict=True), lambda one: shown(one[1], bundle, one[0]), lambda one: one[0]
    )
    return prediction.run(bundle, found, how, name, track, session)


@overload
def verify(bundle: StrPath, *, provider: str = "cpu", threads: int | None = None) -> VerifyReport: ...
@overload
def verify(
    bundle: list[StrPath] | tuple[StrPath, ...], *, provider: str = "cpu", threads: int | None = None
) -> ProofsReport: ...
def verify(
    bundle: StrPath | list[StrPath] | tuple[StrPath, ...], *, provider: str = "cpu", threads: int | None = None
) -> VerifyReport | ProofsReport:
    """Prove `bundle` on this machine; the report says whether its outputs hold, and whose the code packed in it is.

    Raises `CheckFailed` when a member is damaged or was changed after packing and `BadInput` for what is no bundle. A
    list of several raises neither: what each of them would have raised is in the report.
    """

    def proven(one: StrPath) -> VerifyReport:
        return verification.verify(one, provider, threads, lambda: hashes(device_code()))

    return proofs_of([os.fspath(one) for one in bundle], proven) if isinstance(bundle, list | tuple) else proven(bundle)


def foreign_code(bundle: StrPath) -> str:
    """The line about a program in `bundle` that is not the one which this edgecnn packs; empty where it is, or none."""
    code = open_bundle(Path(bundle)).code
    if not code or code == hashes(device_code()):
        return ""
    return f"{bundle}: the code packed in it is NOT this edgecnn's: of another version, or changed; it is kept"


def shown(source: Source, bundle: Bundle, array_name: str = "array") -> Sequence[Shown]:
    """Every image that `source` names: a picture, an array (or its file), or any DATA."""
    ready = ready_of(bundle)
    if isinstance(source, np.ndarray | Mapping):
        return _in_memory(array_name, source, ready)
    path, spec = Path(source), given(source)
    if takes(path):
        return of_file(path, ready, str(bundle.path))
    numbers = bundle.task in NUMBERS
    if path.is_dir() and isinstance(ready, Preprocess) and (numbers or layouts.parts_of(path, bundle.task) is None):
        return _below(path, ready)
    samples = load_data(spec, ready, task=bundle.task, as_truth=numbers)
    originals = isinstance(ready, Preprocess) and (path.is_dir() or path.suffix in LISTS)

    def make(i: int) -> Shown:
        return Shown(
            samples.ids[i],
            partial(samples.__getitem__, i),
            partial(_original_of, samples.ids[i], white_of(ready)) if originals else None,
            ready if isinstance(ready, Preprocess) else None,
            {name: partial(load, i) for name, load in samples.others.items()},
            partial(samples.look, i),
        )

    return Rows(len(samples), make)


def _original_of(path: Path | str, white: int | None) -> Array:
    """The pixels of a picture as a page shows them."""
    return eight_bits(read_image(path, white), white)


def _is_file(source: Source) -> TypeGuard[str | os.PathLike[str]]:
    return not isinstance(source, np.ndarray | Mapping)


def _in_memory(name: str, source: Array | Mapping[str, Array], ready: Ready | Several) -> Sequence[Shown]:
    """The samples in an array, or in a dict that has one for each input."""
    if isinstance(ready, Several):
        arrays = given(source, name)
        if not isinstance(arrays, InMemory) or arrays.arrays is None:
            raise BadInput(f"{name}: is one array; the model takes {ready.words}; give a dict of arrays by input")
        return of_arrays(name, arrays.arrays, ready)
    if isinstance(source, Mapping):
        raise BadInput(f"{name}: is a dict, and the network has one input; give its array")
    return of_array(name, source, ready)


def _below(folder: Path, ready: Preprocess) -> Sequence[Shown]:
    """Every picture below `folder`: what its subfolders stand for is not asked. Those that cannot be read are told."""
    files = list_images(folder, (*SUFFIXES, *UNREAD))
    if not files:
        raise BadInput(f"{folder}: holds no images; put {', '.join(SUFFIXES[:5])} ... files there")
    return Rows(len(files), lambda i: of_picture(files[i], ready))
