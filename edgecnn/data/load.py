"""Images for calibration, evaluation and training: one sized, lazy sequence whatever they come from.

    DATA                        samples                                               labels
    photos/                     every image below, decoded on demand                  none
    photos/CLASS/...            the same                                              the subfolder's place in the order
    photos/train/, photos/val/  (or test/) either of the above, split as they are
    photo.jpg                   one image                                             none
    photos/images/, masks/ ...  masks or boxes of every image (layouts.py)                none
    photos/labels.csv           a row of numbers for every image, for tasks that read it  none
    x.npy                       uint8, uint16 (N, H, W[, 1|3|4]) is preprocessed,     none
                                float (N, C, H, W) goes to the network as it is
    photos/images/, targets/    a picture for every image (pairs.py)                  none
    x.npz                       array `x` or `images`, as above; masks or boxes       array `y` or `labels`
    digits                      1,797 digits, 8x8, built in                           0 to 9
    shapes, shapes:N            drawn circles, squares and triangles (figures.py)     also masks and boxes
    random, random:N            normal noise; only when spelled, and the name says so none
    builtin:digits ...          these, where a file or folder has their name (built_in.py)
    an array, (images, labels)  in memory (data_argument.py), as in .npy and .npz             the second of the two
    x.npz, a dict of arrays     for a network of several inputs (several.py)          array `y` or `labels`

Everything becomes float32 (C, H, W) by one `Preprocess`, the one that is shipped. NaN and infinity are refused where
they are met, by name. No torch here. Test: tests/test_data.py.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from edgecnn.data import layouts
from edgecnn.data.annotated import pictures, with_arrays
from edgecnn.data.built_in import BUILT_IN, PREFIX, built_in, spelled_path
from edgecnn.data.classes import answered, labels_in
from edgecnn.data.data_argument import Data, InMemory, given
from edgecnn.data.figures import load_shapes
from edgecnn.data.folders import scan
from edgecnn.data.noise import RANDOM, noise
from edgecnn.data.pairs import paired
from edgecnn.data.samples import Ready, Samples, split_off
from edgecnn.data.several import load_several
from edgecnn.data.unreadable import drawn
from runtimes import plugins
from runtimes.base import Array, BadInput, Track
from runtimes.imaging.arrays import read_npy, read_npz
from runtimes.imaging.geometry import Geometry
from runtimes.imaging.images import SUFFIXES
from runtimes.imaging.open_sizes import OPEN
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.several import Several
from runtimes.imaging.shown import images_in, look_into, no_pictures, reader, sample_shape
from runtimes.proof.answers import MULTI_LABEL, REGRESSION

DIGITS = Path(__file__).with_name("assets") / "digits.npz"
ARRAYS = (".npz", ".npy")
SPLITS = ("all", "train", "test")


def load_data(
    spec: Data | InMemory,
    preprocess: Ready | Several,
    *,
    limit: int | None = None,
    skip: int = 0,
    split: str = "all",
    seed: int = 0,
    task: str = "classification",
    as_truth: bool | None = False,
    sift: Track | None = None,
) -> Samples:
    """The samples that `spec` names, made ready by `preprocess`; raises `BadInput` in one line for what cannot be used.

    `split` cuts labelled or unlabelled data in two disjoint parts, always the same way. `limit` keeps so many samples,
    drawn with `seed` from all (a folder's first images would all be of its first class), in their order; `skip` leaves
    out the first that are drawn. `task` says what `shapes` draws: one figure, or several with masks and boxes.
    `as_truth`: `y` is what a metric of the user's own compares with, and no classes; None where it may be either.
    `sift`, where given, shows how each sample is read, and those that cannot be are left out (readable.py).
    """
    if split not in SPLITS:
        raise BadInput(plugins.unknown(split, SPLITS, "split"))
    if limit is not None and limit < 1:
        raise BadInput(f"limit {limit}: must be at least 1")
    data = given(spec)
    if isinstance(preprocess, Several):
        samples = _cut(load_several(data, preprocess, seed, as_truth), split, task)
    elif isinstance(data, InMemory):
        samples = _cut(_in_memory(data, preprocess, as_truth), split, task)
    else:
        samples = _load(data, preprocess, split, seed, task, as_truth)
    samples = replace(paired(samples, task), preprocess=preprocess if isinstance(preprocess, Preprocess) else None)
    if skip == 0 and (limit is None or limit >= len(samples)):
        return samples if sift is None else drawn(samples, np.arange(len(samples)), None, sift)
    order = np.random.default_rng(seed).permutation(len(samples))[skip:]
    return replace(drawn(samples, order, limit, sift), of=len(samples))


def _cut(samples: Samples, split: str, task: str) -> Samples:
    """A part of `samples`: the same for a metric of the user's own, who reads classes as truth, as for training."""
    y = None if task in (MULTI_LABEL, REGRESSION) else samples.truth
    whole = y is not None and y.dtype.kind in "iu" and y.size == len(samples)
    return split_off(samples, split, y.reshape(-1) if y is not None and whole else None)


def _load(spec: str, preprocess: Ready, split: str, seed: int, task: str, as_truth: bool | None) -> Samples:
    named = built_in(spec)
    if named is not None:
        return _built_in(named, preprocess, split, seed, task)
    path = Path(spec)
    single = path.suffix.lower() in SUFFIXES and path.is_file()
    if single or path.is_dir() or layouts.parts_of(path, task) is not None:
        ready = _of_pictures(spec, preprocess)
        if single:
            return split_off(pictures(str(path), [path], ready, ()), split)
        found = layouts.load(path, ready, split, task) or _folder(path, ready, split)
        return replace(found, name=spelled_path(found.name), within=_below(path, found.name))
    if path.suffix == ".npz":
        return _cut(_npz(path, preprocess, as_truth), split, task)
    if path.suffix == ".npy":
        return split_off(from_array(str(path), read_npy(path), preprocess), split)
    if path.exists():
        raise BadInput(f"{path}: unknown kind of data; give a folder of images, a .npz or .npy file, digits or shapes")
    raise BadInput(
        f"{spec}: unknown data; {_meant(path)}give a folder of images, a .npz or .npy file, digits, shapes or random"
    )


def _below(root: Path, name: str) -> str:
    """The path of `name` below `root`; empty where it is none.

    >>> _below(Path("/home/ada/photos"), "/home/ada/photos/val"), _below(Path("a.csv"), "a.csv")
    ('val', '')
    """
    place = Path(name)
    return place.relative_to(root).as_posix() if root in place.parents else ""


def _built_in(name: str, preprocess: Ready, split: str, seed: int, task: str) -> Samples:
    kind = name.partition(":")[0]
    if kind == RANDOM:
        return noise(name, seed, lambda i: _noise(np.random.default_rng((seed, i)), preprocess))
    if kind == "shapes":
        return split_off(load_shapes(name, _of_pictures(name, preprocess), task), split)
    if name == "digits":
        return split_off(_digits(_of_pictures(name, preprocess)), split)
    if kind == "digits":
        raise BadInput(f"{name}: has no number; write digits, and --limit for fewer images")
    raise BadInput(f"{PREFIX}{name}: no such data is built in; write {', '.join(PREFIX + known for known in BUILT_IN)}")


def _of_pictures(spec: str, preprocess: Ready) -> Preprocess:
    """How pictures are made ready; raises `BadInput` for a model that takes none."""
    if not isinstance(preprocess, Preprocess):
        raise BadInput(f"{spec}: {no_pictures(preprocess)}; give float arrays as .npy")
    return preprocess


def _meant(path: Path) -> str:
    """`did you mean photos/? else ` for a name near those of the built-in data or of what lies in its folder."""
    known = {name: name for name in BUILT_IN}
    with contextlib.suppress(OSError, ValueError):
        for other in path.parent.iterdir():
            if other.is_dir() or other.suffix.lower() in (*ARRAYS, *SUFFIXES):
                known[other.name] = f"{other}{os.sep}" if other.is_dir() else str(other)
    near = difflib.get_close_matches(path.name, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(known[name] for name in near)}? Else " if near else ""


def _digits(preprocess: Preprocess) -> Samples:
    with np.load(DIGITS) as archive:
        images, labels = archive["images"], archive["labels"].astype(np.int64)
    grey = (images.astype(np.uint16) * 255 // 16).astype(np.uint8)  # 17 grey levels, 16 is ink
    ids = tuple(f"digits[{i}]" for i in range(len(labels)))
    return Samples("digits", ids, lambda i: preprocess(grey[i]), labels, tuple("0123456789"))


def _noise(rng: np.random.Generator, ready: Ready) -> Array:
    """Normal numbers, or pixels of every value for a network that takes pixels."""
    if isinstance(ready, Preprocess) and ready.dtype == np.uint8:
        return rng.integers(0, 256, ready.shape).astype(np.uint8)
    shape = sample_shape(ready)
    if OPEN in shape:
        raise BadInput(f"{RANDOM}: the model leaves the size of its input open; give --input-shape")
    return rng.standard_normal(shape, np.float32)


def _folder(root: Path, preprocess: Preprocess, split: str) -> Samples:
    found = scan(root, split)
    samples = replace(pictures(str(root), found.files, preprocess, found.class_names), labels=found.labels)
    return samples if found.is_split else split_off(samples, split)


def _npz(path: Path, preprocess: Ready, as_truth: bool | None) -> Samples:
    arrays = read_npz(path)
    images = images_in(arrays, path)
    samples = from_array(str(path), images, preprocess)
    if isinstance(preprocess, Preprocess):
        ready = images.dtype.kind == "f"
        geometry = Geometry.same(preprocess.size) if ready else Geometry.of(preprocess, images.shape[1:3])
        samples = with_arrays(samples, arrays, geometry, path)
    else:
        samples = replace(samples, unread=" and ".join(name for name in ("masks", "boxes") if name in arrays))
    return answered(samples, labels_in(arrays), as_truth)


def _in_memory(data: InMemory, preprocess: Ready, as_truth: bool | None) -> Samples:
    images = data.images if data.arrays is None else images_in(data.arrays, Path(data.name))
    samples = from_array(data.name, images, preprocess)
    return answered(samples, data.labels, as_truth)


def from_array(name: str, images: Array, preprocess: Ready) -> Samples:
    """Samples from pixels (N, H, W) or (N, H, W, 1|3|4), or float (N, ...) that is already what the network eats."""
    ids = tuple(f"{name}[{i}]" for i in range(len(images) if images.ndim else 0))
    as_is = images.dtype.kind == "f"
    made = isinstance(preprocess, Preprocess) and (preprocess.floating or images.shape[1:] != preprocess.shape)
    size = (lambda _: (images.shape[1], images.shape[2])) if made and not as_is else None
    return Samples(
        name, ids, reader(name, images, preprocess), as_is=as_is, look=partial(look_into, images), size_of=size
    )
