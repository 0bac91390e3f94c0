"""What an int8 model is known to have been made with, for a comparison that was given no images.

    a bundle                         its golden inputs, as they lie in it
    metadata: calibrated on digits   the test part of that built-in set (or of `shapes`), made ready as it says
    anything else                    nothing: made pictures (edgecnn/data/seeded.py), which may leave a layer's range

Test: tests/test_known.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from edgecnn.data.adapting import adapter
from edgecnn.data.built_in import PREFIX
from edgecnn.data.samples import Samples
from edgecnn.runners import Fed
from runtimes.base import BadInput
from runtimes.bundle import open_bundle
from runtimes.execution.model_file import is_bundle, is_model_file

SETS = ("digits", "shapes")


def known_samples(subjects: Sequence[Fed], limit: int, seed: int) -> Samples | None:
    """At most `limit` images of what the integer models among `subjects` were made with, ready for the first of them;
    None where that is not known.
    """
    if len(subjects) < 2 or len(subjects[0].inputs) != 1:
        return None
    files = [s for s in subjects if s.quantized and is_model_file(s.name)]
    bundles = [s for s in files if is_bundle(Path(s.name))]
    ways: list[Callable[[], Samples | None]] = [partial(_golden, s, subjects[0], limit) for s in bundles]
    ways += [partial(_built_in, s, subjects[0], limit, seed) for s in files]
    for way in ways:
        try:
            found = way()
        except BadInput:  # other sizes, or no pictures: it does not fit here
            continue
        if found is not None and _fits(found, subjects[0]):
            return found
    return None


def _golden(bundle: Fed, first: Fed, limit: int) -> Samples | None:
    arrays = open_bundle(Path(bundle.name)).golden()[0]
    adapt = adapter(bundle, first)
    images = arrays[0][:limit] if adapt is None else adapt(arrays[0][:limit])
    ids = tuple(f"golden[{i}]" for i in range(len(images)))
    found = Samples(f"golden inputs of {bundle.name}", ids, lambda i: images[i], as_is=True)
    return found if len(arrays) == 1 else None


def _built_in(made: Fed, first: Fed, limit: int, seed: int) -> Samples | None:
    from edgecnn.data.load import load_data

    name, task = _calibrated_on(Path(made.name))
    if name not in SETS or first.preprocess is None:
        return None
    return load_data(f"{PREFIX}{name}", first.preprocess, limit=limit, split="test", seed=seed, task=task)


def _calibrated_on(path: Path) -> tuple[str, str]:
    """(name of the data, task) on record in a model; empty where none is."""
    from edgecnn.opened import lenient_model
    from exporters.artifact import RECIPE_KEY, read_identity
    from exporters.graph import get_meta

    if is_bundle(path):
        manifest = open_bundle(path).manifest
        recipe, task = manifest.get("recipe"), manifest.get("task")
    else:
        model = lenient_model(path)
        identity = read_identity(model, str(path))
        recipe, task = _parsed(get_meta(model).get(RECIPE_KEY, "")), identity.task if identity else "classification"
    data = recipe.get("data") if isinstance(recipe, dict) else None
    return (data, str(task)) if isinstance(data, str) else ("", "")


def _parsed(text: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found


def _fits(samples: Samples, first: Fed) -> bool:
    """Whether `samples` have the type and the sizes that the only input of `first` wants."""
    info, value = first.inputs[0], samples[0]
    sizes = zip(info.shape[1:], value.shape, strict=False)
    batch = info.shape[0] if info.shape else 0
    return (
        value.dtype.name == info.dtype
        and value.ndim == len(info.shape) - 1
        and all(not isinstance(wanted, int) or wanted == size for wanted, size in sizes)
        and (not isinstance(batch, int) or batch == 1)
    )
