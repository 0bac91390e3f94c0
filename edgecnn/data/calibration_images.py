"""What an int8 model is known to have been made with, for a comparison that was given no images.

    a bundle                         its golden inputs, as they lie in it
    metadata: calibrated on digits   the test part of that built-in set (or of `shapes`), made ready as it says
    anything else                    nothing: made pictures (edgecnn/data/seeded.py), which may leave a layer's range

Where another size is asked for, they are resized to it.
Test: tests/test_calibration_images.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from edgecnn.data.adapting import adapter
from edgecnn.data.built_in import PREFIX
from edgecnn.data.resized import in_shape
from edgecnn.data.samples import Samples
from edgecnn.data.several import of_rows, several
from edgecnn.runners import Fed
from runtimes.base import Array, BadInput
from runtimes.bundle import open_bundle
from runtimes.execution.model_file import is_bundle, is_model_file

SETS = ("digits", "shapes")


def known_samples(
    subjects: Sequence[Fed], limit: int, seed: int, shape: tuple[int, ...] | None = None
) -> Samples | None:
    """At most `limit` images of what the integer models among `subjects` were made with, ready for the first of them,
    in the `shape` of one sample if that is asked for; None where that is not known.
    """
    if len(subjects) < 2 or (len(subjects[0].inputs) != 1 and shape is not None):
        return None
    files = [s for s in subjects if s.quantized and is_model_file(s.name)]
    bundles = [s for s in files if is_bundle(Path(s.name))]
    ways: list[Callable[[], Samples | None]] = [partial(_golden, s, subjects[0], limit, shape) for s in bundles]
    ways += [partial(_built_in, s, subjects[0], limit, seed, shape) for s in files]
    for way in ways:
        try:
            found = way()
        except BadInput:  # other sizes, or no pictures: it does not fit here
            continue
        if found is not None and _fits(found, subjects[0]):
            return found
    return None


def _golden(bundle: Fed, first: Fed, limit: int, shape: tuple[int, ...] | None) -> Samples | None:
    arrays = open_bundle(Path(bundle.name)).golden()[0]
    if len(first.inputs) != 1:
        return _rows(bundle, first, arrays, limit)
    adapt = adapter(bundle, first)
    given = arrays[0][:limit] if adapt is None else adapt(arrays[0][:limit])
    images = given if shape is None else in_shape(given, shape)
    ids = tuple(f"golden[{i}]" for i in range(len(images)))
    words = "" if images is given else f", resized to {'x'.join(map(str, images.shape[1:]))}"
    found = Samples(f"golden inputs of {bundle.name}{words}", ids, lambda i: images[i], as_is=True)
    return found if len(arrays) == 1 else None


def _rows(bundle: Fed, first: Fed, arrays: Sequence[Array], limit: int) -> Samples | None:
    """The golden `arrays` of a bundle of several inputs under the names that `first` has for these."""
    ours, theirs = ([info.name for info in fed.inputs] for fed in (first, bundle))
    if len(ours) != len(arrays):
        return None
    names = theirs if set(ours) == set(theirs) else ours
    given = {name: array[:limit] for name, array in zip(names, arrays, strict=True)}
    return of_rows(f"golden inputs of {bundle.name}", given, several(first.name, first.inputs))


def _built_in(made: Fed, first: Fed, limit: int, seed: int, shape: tuple[int, ...] | None) -> Samples | None:
    from edgecnn.data.load import load_data

    name, task = _calibrated_on(Path(made.name))
    ready = first.preprocess
    if name not in SETS or ready is None:
        return None
    if shape is not None and len(shape) == 3 and shape != ready.shape:
        ready = ready.at(shape[:2] if ready.channels_last else shape[1:])
    return load_data(f"{PREFIX}{name}", ready, limit=limit, split="test", seed=seed, task=task)


def _calibrated_on(path: Path) -> tuple[str, str]:
    """(name of the data, task) on record in a model; empty where none is."""
    from edgecnn.opened import lenient_model
    from exporters.artifact import read_identity, read_recipe

    if is_bundle(path):
        manifest = open_bundle(path).manifest
        recipe, task = manifest.get("recipe"), manifest.get("task")
    else:
        model = lenient_model(path)
        identity = read_identity(model, str(path))
        recipe, task = read_recipe(model), identity.task if identity else "classification"
    data = recipe.get("data") if isinstance(recipe, dict) else None
    return (data, str(task)) if isinstance(data, str) else ("", "")


def _fits(samples: Samples, first: Fed) -> bool:
    """Whether `samples` have the type and the sizes that the first input of `first` wants."""
    info, value = first.inputs[0], samples[0]
    sizes = zip(info.shape[1:], value.shape, strict=False)
    batch = info.shape[0] if info.shape else 0
    return (
        value.dtype.name == info.dtype
        and value.ndim == len(info.shape) - 1
        and all(not isinstance(wanted, int) or wanted == size for wanted, size in sizes)
        and (not isinstance(batch, int) or batch == 1)
    )
