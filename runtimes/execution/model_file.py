"""What ONNX Runtime is given for a file that a user names: an .onnx file, or a member of a bundle.

    model.onnx      the path itself; its external data lies beside it
    NAME.edge       the bytes of `member`, and of its external data

Test: tests/test_opened.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runtimes import bundle
from runtimes.base import BadInput, Tensors
from runtimes.files import check_input_file
from runtimes.imaging.images import SUFFIXES as PICTURE_SUFFIXES
from runtimes.session import MAX_MODEL_BYTES, Session, open_session

if TYPE_CHECKING:
    from runtimes.execution.residence import Residence

ZIP_MAGIC = b"PK\x03\x04"
MODEL_SUFFIXES = (".onnx", bundle.SUFFIX)
PYTORCH_SUFFIXES = (".pt", ".pth", ".safetensors", ".py")


def is_model_file(source: str) -> bool:
    """Whether `source` names a file to open and not a PyTorch network (a zoo name, file.py:callable, library:name)."""
    path = Path(source)
    suffix = path.suffix.lower()
    return suffix in MODEL_SUFFIXES or (suffix != ".py" and path.exists() and not path.is_dir())


def is_bundle(path: Path) -> bool:
    """Whether `path` is a bundle: by its name, else by its first bytes.

    Raises `BadInput` when it cannot be read, and for a PyTorch file, which people give where a model is wanted.
    """
    check_input_file(path, 4 * MAX_MODEL_BYTES)
    suffix = path.suffix.lower()
    if suffix in PYTORCH_SUFFIXES:
        raise BadInput(f"{path}: is no ONNX model or bundle; make one with `edgecnn export SOURCE -o model.onnx`")
    if suffix in PICTURE_SUFFIXES:
        raise BadInput(f"{path}: is a picture, not a model; give an .onnx file or a bundle")
    if suffix in MODEL_SUFFIXES:
        return suffix == bundle.SUFFIX
    with open(path, "rb") as stream:
        return stream.read(4) == ZIP_MAGIC


def open_any(path: Path, provider: str = "cpu", threads: int | None = None, member: str = bundle.MODEL) -> Session:
    """A session of the model in `path` (the `member` of a bundle); raises what `open_session` raises."""
    if is_bundle(path):
        return bundle.open_bundle(path).session(provider, threads, member)
    return open_session(path, provider, threads)


def model_of(path: Path, member: str = bundle.MODEL) -> Path | bytes:
    """What ONNX Runtime is given for `path`: the file itself, or the `member` of a bundle."""
    return bundle.open_bundle(path).read(member) if is_bundle(path) else path


def external_of(path: Path, member: str = bundle.MODEL) -> dict[str, bytes] | None:
    """The weights beside the `member` of a bundle; None where ONNX Runtime finds them by itself."""
    return bundle.open_bundle(path).external(member) if is_bundle(path) else None


def built_size(path: Path, batch: int) -> tuple[str, ...]:
    """The size at which a bundle of open size was built, as a text for `parse_shapes`; else nothing."""
    if not is_bundle(path):
        return ()
    opened = bundle.open_bundle(path)
    sizes = opened.inputs[0]["shape"]
    if opened.several is not None or not any(isinstance(size, str) for size in sizes[1:]):
        return ()
    ready = opened.golden()[0][0].shape[1:] if opened.preprocess is None else opened.preprocess.shape
    return (",".join(map(str, (batch, *ready))),)


def whereabouts(model: Path | bundle.Bundle, feeds: Tensors, provider: str, threads: int | None = None) -> Residence:
    """Where the nodes of `model`, a file or an opened bundle, run on `provider`: on it, or away from it."""
    from runtimes.execution.residence import residence
    from runtimes.machine import default_threads

    threads = default_threads() if threads is None else threads
    opened = bundle.open_bundle(model) if isinstance(model, Path) and is_bundle(model) else model
    if isinstance(opened, Path):
        return residence(opened, feeds, provider, threads)
    return residence(opened.read(bundle.MODEL), feeds, provider, threads, external=opened.external())
