"""Models of other frameworks, which people give where an ONNX file, a bundle or a SOURCE is wanted: what to do instead.

    net.keras   python -m tf2onnx.convert --keras net.keras --output model.onnx
    net.pt      the network's code and these weights; TorchScript is exported by torch

Told by the name, and where that says too little by the first bytes. Test: tests/test_foreign.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runtimes.base import BadInput

GIVEN = ("model", "models", "source", "reference", "candidate", "other", "against", "bundle")
"""What calls name the models that they take."""
TF2ONNX = "make an ONNX file of it: `python -m tf2onnx.convert {} {} --output model.onnx` (docs/tensorflow.md)"
NO_WAY_BACK = "which no tool makes an ONNX file of again: give the ONNX file or the network that it was made from"
TF = {
    ".keras": ("a Keras model", "--keras"),
    ".h5": ("a Keras model", "--keras"),
    ".hdf5": ("a Keras model", "--keras"),
    ".tflite": ("a TensorFlow Lite model", "--tflite"),
}
MADE = {
    ".xml": "an OpenVINO model",
    ".mlmodel": "a Core ML model",
    ".mlpackage": "a Core ML model",
    ".engine": "a TensorRT engine",
    ".plan": "a TensorRT engine",
}
TORCH = (".pt", ".pth", ".safetensors")
SAVED = "saved_model.pb"
GRAPH_DEF = b"\n"
"""What a frozen graph of TensorFlow begins with, and no ONNX model."""


def refuse_given(arguments: Mapping[str, Any]) -> None:
    """`refuse_foreign` for every model among a call's arguments; of several bundles each is reported by itself."""
    for name in GIVEN:
        value = arguments.get(name)
        for one in value if name == "models" and isinstance(value, list | tuple) else [value]:
            refuse_foreign(one)


def refuse_foreign(model: object) -> None:
    """Raise `BadInput` where `model` is the path of another framework's file or folder."""
    if not isinstance(model, str | os.PathLike) or not os.path.exists(model):
        return
    words = next(_words(Path(model)), "")
    if words:
        raise BadInput(f"{os.fspath(model)}: is {words}")


def _words(path: Path) -> Iterator[str]:
    suffix = path.suffix.lower()
    if path.name == SAVED or (path / SAVED).is_file():
        folder = path if path.is_dir() else path.parent
        yield f"a SavedModel of TensorFlow; {TF2ONNX.format('--saved-model', folder.name or folder)}"
    if suffix in MADE:
        yield f"{MADE[suffix]}, {NO_WAY_BACK}"
    if path.is_dir():
        return
    if suffix in TF:
        what, option = TF[suffix]
        yield f"{what}; {TF2ONNX.format(option, path.name)}"
    if suffix == ".pb" and _starts_with(path, GRAPH_DEF):
        ends = f"{path.name} --inputs IN:0 --outputs OUT:0"
        yield f"a frozen graph of TensorFlow; {TF2ONNX.format('--graphdef', ends)}"
    if suffix in TORCH and _is_script(path):
        loaded = f'torch.jit.load("{path.name}"), (torch.zeros(1, 3, 224, 224),)'
        script = f'torch.onnx.export({loaded}, "model.onnx", dynamo=False)'
        yield f"a TorchScript model; make an ONNX file of it: `{script}`"
    elif suffix in TORCH:
        yield (
            "a PyTorch file, no ONNX model or bundle; give the network's code and these weights: "
            f"`edgecnn export FILE.py:NAME --weights {path.name} -o model.onnx`"
        )


def _starts_with(path: Path, first: bytes) -> bool:
    with open(path, "rb") as stream:
        return stream.read(len(first)) == first


def _is_script(path: Path) -> bool:
    """Whether `path` holds code beside its weights."""
    import zipfile  # whose compressors `--help` does without

    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
