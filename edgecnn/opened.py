"""Open what a user names, an .onnx file or a bundle: as a session, as bytes for ONNX Runtime, as an ONNX model.

What a device needs of it is runtimes/execution/model_file.py.
Nothing here imports torch, and onnx only where a model itself is asked for. Test: tests/test_opened.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runtimes import bundle
from runtimes.base import BadInput
from runtimes.execution.model_file import is_bundle
from runtimes.files import check_input_file, check_output, require_apart

if TYPE_CHECKING:
    import onnx


def check_model_output(output: Path, force: bool = False, model: Path | None = None) -> Path:
    """`check_output` for an .onnx file; `BadInput` for another suffix, and where it is the input `model` itself."""
    if output.suffix.lower() != ".onnx" and not output.is_dir():
        raise BadInput(f"{output}: is no ONNX file's name; end it with .onnx")
    require_apart([output], [model])
    return check_output(output, force)


def check_quantized_output(output: Path, force: bool = False, model: Path | None = None) -> Path:
    """The same for a bundle or an .onnx file."""
    if output.suffix.lower() == bundle.SUFFIX and not output.is_dir():
        require_apart([output], [model])
        return check_output(output, force)
    return check_model_output(output, force, model)


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
    from exporters.frozen import freeze_old
    from exporters.load import SIZE_LIMIT_BYTES, check_walk, parse_model
    from exporters.mending import put_in_order
    from exporters.padded_pools import keep_apart

    if is_bundle(path):
        return read_model(path)[0]
    data = check_input_file(path, SIZE_LIMIT_BYTES).read_bytes()
    model = parse_model(data, str(path))
    put_in_order(model)
    check_walk(model, str(path))
    read_external(model, path, SIZE_LIMIT_BYTES - len(data))
    freeze_old(model)
    keep_apart(model)
    return model
