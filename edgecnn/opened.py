"""Open what a user names, an .onnx file or a bundle: as a session, as bytes for ONNX Runtime, as an ONNX model.

Nothing here imports torch, and onnx only where a model itself is asked for. Test: tests/test_opened.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.data.folders import SUFFIXES as PICTURE_SUFFIXES
from runtimes import bundle
from runtimes.base import BadInput, Tensors
from runtimes.files import check_input_file, check_output
from runtimes.session import MAX_MODEL_BYTES, Session, open_session

if TYPE_CHECKING:
    import onnx

    from runtimes.residence import Residence

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


def open_any(path: Path, provider: str = "cpu", threads: int | None = None) -> Session:
    """A session of the model in `path`; raises `BadInput` and `Unavailable` as `open_session` does."""
    if is_bundle(path):
        return bundle.open_bundle(path).session(provider, threads)
    return open_session(path, provider, threads)


def model_of(path: Path) -> Path | bytes:
    """What ONNX Runtime is given for `path`: the file itself, or the model inside a bundle."""
    return bundle.open_bundle(path).read(bundle.MODEL) if is_bundle(path) else path


def external_of(path: Path) -> dict[str, bytes] | None:
    """The weights beside the model inside a bundle; None where ONNX Runtime finds them by itself."""
    return bundle.open_bundle(path).external() if is_bundle(path) else None


def whereabouts(path: Path, feeds: Tensors, provider: str, threads: int | None = None) -> Residence:
    """Where the nodes of the model in `path` run on `provider`: on it, or away from it."""
    from runtimes.machine import default_threads
    from runtimes.residence import residence

    threads = default_threads() if threads is None else threads
    return residence(model_of(path), feeds, provider, threads, external=external_of(path))


def check_model_output(output: Path, force: bool = False, model: Path | None = None) -> Path:
    """`check_output` for an .onnx file; `BadInput` for another suffix, and where it is the input `model` itself."""
    if output.suffix.lower() != ".onnx" and not output.is_dir():
        raise BadInput(f"{output}: is no ONNX file's name; end it with .onnx")
    if model is not None and output.exists() and model.exists() and output.samefile(model):
        raise BadInput(f"{output}: is the input itself; give another name")
    return check_output(output, force)


def refuse_bundle(path: Path) -> None:
    """Raise `BadInput` for a bundle (and for what `is_bundle` refuses) where an .onnx file is wanted."""
    if is_bundle(path):
        raise BadInput(f"{path}: is a bundle, not an .onnx file; unzip {bundle.MODEL} from it and give that")


def read_model(path: Path) -> tuple[onnx.ModelProto, int]:
    """(model, bytes on disk) of an .onnx file or a bundle, checked in full; raises `BadInput`."""
    from exporters.load import check_model, load_model, parse_model

    if not is_bundle(path):
        model = load_model(path)
        return model, max(path.stat().st_size, model.ByteSize())
    opened = bundle.open_bundle(path)
    model = parse_model(opened.read(bundle.MODEL), str(path))
    if bundle.MODEL_DATA not in opened.archive.members:
        check_model(model, str(path))
    return model, path.stat().st_size


def lenient_model(path: Path) -> onnx.ModelProto:
    """The model in an .onnx file or a bundle, external tensors included. Of its faults only those that forbid to walk
    over the graph are refused: any other may be what is looked for."""
    from exporters.external import read_external
    from exporters.load import SIZE_LIMIT_BYTES, check_walk, parse_model

    if is_bundle(path):
        return read_model(path)[0]
    data = check_input_file(path, SIZE_LIMIT_BYTES).read_bytes()
    model = parse_model(data, str(path))
    check_walk(model, str(path))
    read_external(model, path, SIZE_LIMIT_BYTES - len(data))
    return model
