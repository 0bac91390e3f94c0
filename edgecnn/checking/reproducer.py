"""The layer at fault as files of its own: two small models, their inputs, and a test that fails until it is mended.

    DIR/reference.onnx  DIR/candidate.onnx  DIR/inputs.npz  DIR/test_layer.py        numpy, onnxruntime and pytest

A mended layer saved as candidate.onnx makes the test pass. A PyTorch side has no model; what it made is in the .npz.
The folder appears whole or not at all. Test: tests/test_diff.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from edgecnn.checking.comparison import Comparison
from edgecnn.checking.divergence import Divergence
from edgecnn.checking.meter import keeping, per_channel
from edgecnn.checking.sides import GraphSide
from runtimes.base import Array, BadInput, one_line

FILES = ("reference.onnx", "candidate.onnx", "inputs.npz", "test_layer.py")
LOWEST_DB, HIGHEST_DB = 10.0, 105.0

TEMPLATE = '''"""{title}

Fails while the layer in candidate.onnx is wrong; save the mended layer under that name and it passes.
Needs numpy, onnxruntime and pytest.
"""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

HERE = Path(__file__).parent
INPUTS = {inputs}
"""File of a model -> name of its input -> array in inputs.npz."""
OUTPUTS = {outputs}
"""File of a model -> the tensor that is compared."""
LIMIT_DB = {limit:.1f}


def run(file):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(HERE / file), options, providers=["CPUExecutionProvider"])
    with np.load(HERE / "inputs.npz") as arrays:
        feeds = {{name: arrays[array] for name, array in INPUTS[file].items()}}
    wanted = {{value.name for value in session.get_inputs()}}
    return session.run([OUTPUTS[file]], {{k: v for k, v in feeds.items() if k in wanted}})[0]


def snr_db(reference, candidate):
    if reference.shape != candidate.shape:
        return -np.inf
    ours, theirs = reference.astype(np.float64), candidate.astype(np.float64)
    noise = ((ours - theirs) ** 2).sum()
    return np.inf if noise == 0 else 10 * np.log10((ours**2).sum() / noise)


def expected(gained=False):
    with np.load(HERE / "inputs.npz") as arrays:
        return arrays["expected_gained" if gained and "expected_gained" in arrays else "expected"]


@pytest.mark.skipif("reference.onnx" not in INPUTS, reason="the reference is a PyTorch module: only its result is kept")
def test_the_reference_gives_what_was_recorded():
    assert snr_db(expected(), run("reference.onnx")) >= {same:.1f}


@pytest.mark.skipif("candidate.onnx" not in INPUTS, reason="the candidate is a PyTorch module: only its result is kept")
def test_the_candidate_is_the_same_layer():
    assert snr_db(expected(gained=True), run("candidate.onnx")) >= LIMIT_DB
'''


def check_folder(folder: Path, force: bool = False) -> Path:
    """`folder`, if a reproducer can be written there; raises `BadInput` before any long work when not."""
    if folder.is_dir():
        others = sorted({entry.name for entry in folder.iterdir()} - {*FILES, "__pycache__", ".pytest_cache"})
        if others:
            raise BadInput(f"{folder}: holds other files ({others[0]}); give a new folder")
    elif folder.exists():
        raise BadInput(f"{folder}: is a file; give the name of a folder")
    if folder.exists() and not force:
        raise BadInput(f"{folder}: exists already; give another name or --force")
    if not folder.resolve().parent.is_dir():
        raise BadInput(f"{folder.parent}: no such folder; make it first")
    return folder


def write_reproducer(comparison: Comparison, first: Divergence, folder: Path, force: bool = False) -> None:
    """Write the layer of `first` to `folder`, whole or not at all."""
    check_folder(folder, force)
    folder = folder.resolve()
    files = _files(comparison, first)
    try:
        with tempfile.TemporaryDirectory(prefix=".edgecnn-", dir=folder.parent) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            for name, data in files.items():
                (made / name).write_bytes(data)
            if folder.exists():
                os.replace(folder, Path(scratch) / "old")
            os.replace(made, folder)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}); is the disk full?") from error


def _files(comparison: Comparison, first: Divergence) -> dict[str, bytes]:
    arrays, names = _arrays(comparison, first.point)
    models, inputs, outputs = dict[str, bytes](), dict[str, dict[str, str]](), dict[str, str]()
    for which, (file, side) in enumerate(zip(FILES, (comparison.reference, comparison.candidate), strict=False)):
        if isinstance(side, GraphSide):
            (own,) = comparison.tensors([first.point], which)
            given = {name: arrays[array] for name, array in names[which].items()}
            models[file] = _cut(side, own, given).SerializeToString(deterministic=True)
            inputs[file], outputs[file] = names[which], own
    module = f", module {first.module}" if first.module else ""
    title = one_line(
        f"{first.op} {first.node}{module}: {comparison.candidate.name} against {comparison.reference.name}"
    )
    text = TEMPLATE.format(
        title=title.replace("\\", "/").replace('"', "'"), inputs=repr(inputs), outputs=repr(outputs),
        limit=min(first.limit_db, HIGHEST_DB), same=min(max(first.limit_db, LOWEST_DB), HIGHEST_DB),
    )  # fmt: skip
    return {**models, "inputs.npz": _npz(arrays), "test_layer.py": text.encode()}


def _cut(side: GraphSide, tensor: str, given: Mapping[str, Array]) -> onnx.ModelProto:
    """The layer alone; inputs that are the graph's own stay as they are declared."""
    return side.parts.cut_out([tensor], {name: v for name, v in given.items() if name not in side.parts.inputs})


def _arrays(comparison: Comparison, point: int) -> tuple[dict[str, Array], tuple[dict[str, str], dict[str, str]]]:
    """(arrays of the file, for each side: name of an input -> array); the reference's values of the first sample."""
    near = list(comparison.points.parents[point])
    ours, theirs = (comparison.tensors([*near, point], side) for side in (0, 1))
    feed = comparison.feeds[0]
    with keeping() as kept:
        runner = comparison.reference.open(ours)
        kept.put(0, runner(feed))
        arrays = {f"input_{i}": kept.get(0, name) for i, name in enumerate(ours[:-1])}
        arrays["expected"] = kept.get(0, ours[-1])
    maps = tuple({name: f"input_{i}" for i, name in enumerate(names[:-1])} for names in (ours, theirs))
    labels = {**maps[1], theirs[-1]: "expected"}
    for name in comparison.gains.keys() & labels.keys():
        value = arrays[labels[name]]
        arrays[f"{labels[name]}_gained"] = value * per_channel(comparison.gains[name], value.ndim)
    maps[1].update({name: f"{label}_gained" for name, label in maps[1].items() if f"{label}_gained" in arrays})
    for i, (name, value) in enumerate(feed.items()):
        arrays[f"feed_{i}"] = value
        adapt = comparison.candidate.adapt
        arrays |= {f"adapted_{i}": adapt(value)} if adapt is not None else {}
        maps[0].setdefault(comparison.reference.feeds.get(name, name), f"feed_{i}")
        theirs_too = f"feed_{i}" if adapt is None else f"adapted_{i}"
        maps[1].setdefault(comparison.candidate.feeds.get(name, name), theirs_too)
    used = _used(comparison, point, maps)
    return {name: value for name, value in arrays.items() if name in used | {"expected", "expected_gained"}}, (
        maps[0],
        maps[1],
    )


def _used(comparison: Comparison, point: int, maps: tuple[dict[str, str], ...]) -> set[str]:
    """Arrays that a side reads; of the graph's inputs mostly none. `maps` lose the others."""
    used: set[str] = set()
    for which, side in enumerate((comparison.reference, comparison.candidate)):
        if not isinstance(side, GraphSide):
            used |= set(maps[which].values())
            continue
        (own,) = comparison.tensors([point], which)
        nodes = side.parts.needed([own], [name for name, array in maps[which].items()])
        read = {name for i in nodes for name in side.parts.reads[i]} | {own}
        for name in [name for name in maps[which] if name not in read]:
            del maps[which][name]
        used |= set(maps[which].values())
    return used


def _npz(arrays: Mapping[str, Array]) -> bytes:
    import io

    stream = io.BytesIO()
    np.savez(stream, **dict(arrays))  # type: ignore[arg-type]
    return stream.getvalue()
