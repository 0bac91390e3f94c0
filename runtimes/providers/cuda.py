"""NVIDIA GPUs through ONNX Runtime's CUDA provider; `require` finds the first thing that is missing, in this order:

    built in?  ->  driver library loads?  ->  driver new enough?  ->  a device?  ->  CUDA and cuDNN libraries load?

`onnxruntime.get_available_providers()` answers only the first question, and a session that was asked for CUDA on a
machine without it comes back on the CPU. Source: CUDA Driver API (cuInit, cuDriverGetVersion, cuDeviceGetCount),
ONNX Runtime's `preload_dlls` and `core/providers/cuda/nn/conv.cc`. Test: tests/test_providers_cuda.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runtimes.base import BadInput, Unavailable

ORT_NAME = "CUDAExecutionProvider"
NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE"""
NEEDED_TO_FUSE = ("prefer_nhwc", "use_tf32")


def require() -> None:
    """Raise `Unavailable` with the first thing missing: the build, the driver, a device, or a library by name."""
    cuda = _build_version()
    driver = _driver()
    _check_device(driver, cuda)
    _check_libraries(cuda)


@dataclass(frozen=True)
class Options:
    """What can be chosen, under ONNX Runtime's own names; a name's text form is that of `provider_options`.

    Two defaults are not ONNX Runtime's. `use_tf32` is off: it rounds every product to 10 bits of mantissa, which after
    20 layers is a relative error of 2.7e-3 instead of 1.5e-6. `cudnn_conv_algo_search` is HEURISTIC, which is cuDNN's
    heuristic A; DEFAULT, its list of what always works, is not offered. The other defaults are ONNX Runtime's, because
    what they gain depends on the network: `build --provider cuda` races them.
    """

    use_tf32: bool = False
    """Off, ONNX Runtime takes no convolution that uses tensor cores, of float16 neither: `Asked.for_half` sets it."""
    cudnn_conv_algo_search: Literal["HEURISTIC", "EXHAUSTIVE"] = "HEURISTIC"
    """EXHAUSTIVE is cuDNN's heuristic B, which thinks longer; nothing is timed since ONNX Runtime 1.20."""
    prefer_nhwc: bool = False
    """Convolutions in channels-last layout, which tensor cores want; transposes where a layer has no such kernel."""
    fuse_conv_bias: bool = False
    """Convolution and bias in one kernel of cuDNN's runtime fusion, compiled on the first run; ReLU stays apart.

    Only with `prefer_nhwc`: else every run but the first adds what an earlier one left in memory. Only with `use_tf32`:
    where cuDNN has no such kernel without tensor cores, ONNX Runtime would use them and not say so.
    """
    enable_cuda_graph: bool = False
    """Record the first run of a shape and replay it: one launch instead of one a kernel. Fixed shapes only."""
    gpu_mem_limit: int = 0
    """Most bytes of the memory arena; 0 is all there is."""
    device_id: int = 0


def options(chosen: Options) -> dict[str, str]:
    """As ONNX Runtime wants them: numbers as text, no limit where none was set; `BadInput` for what would be wrong."""
    missing = [name for name in NEEDED_TO_FUSE if chosen.fuse_conv_bias and not getattr(chosen, name)]
    if missing:
        wanted = " and ".join(f"{name}=1" for name in missing)
        raise BadInput(f"cuda: fuse_conv_bias=1 is wrong without {wanted}; add it, or leave fuse_conv_bias out")
    values = {name: str(int(value) if isinstance(value, bool) else value) for name, value in vars(chosen).items()}
    return values if chosen.gpu_mem_limit else {k: v for k, v in values.items() if k != "gpu_mem_limit"}


def configure(session_options: Any) -> None:
    """Nothing: operators without a CUDA kernel go to the CPU, and `census` says which."""


def library_names(cuda: str, platform: str = sys.platform) -> tuple[str, ...]:
    """What a convolution on the GPU loads, for a build against CUDA `cuda` ("13.0").

    >>> library_names("12.8", "linux")
    ('libcudart.so.12', 'libcublasLt.so.12', 'libcublas.so.12', 'libcurand.so.10', 'libcudnn.so.9')
    """
    major = cuda.split(".")[0]
    if platform == "win32":
        return f"cudart64_{major}.dll", f"cublasLt64_{major}.dll", f"cublas64_{major}.dll", "cudnn64_9.dll"
    toolkit = tuple(f"lib{name}.so.{major}" for name in ("cudart", "cublasLt", "cublas"))
    return (*toolkit, "libcurand.so.10", "libcudnn.so.9")


def load_library(name: str) -> Any:
    """The seam that tests replace; raises OSError as `ctypes.CDLL` does."""
    return ctypes.CDLL(name)


def _build_version() -> str:
    """The CUDA version ("13.0") that this ONNX Runtime was built against."""
    import onnxruntime as ort

    if ORT_NAME not in ort.get_available_providers():
        raise Unavailable(
            f"cuda: this onnxruntime {ort.__version__} is built without CUDA; pip uninstall onnxruntime and "
            "pip install onnxruntime-gpu (Linux x86-64 and Windows)"
        )
    return getattr(ort, "cuda_version", "") or "12"


def _driver() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return load_library(name)
    except OSError as error:
        raise Unavailable(f"cuda: no NVIDIA driver ({name} does not load); install the driver, or use cpu") from error


def _check_device(driver: Any, cuda: str) -> None:
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    supported = f"{version.value // 1000}.{version.value % 1000 // 10}"
    if version.value // 1000 < int(cuda.split(".")[0]):
        raise Unavailable(f"cuda: the driver supports CUDA {supported}, onnxruntime needs {cuda}; update the driver")
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status == NO_DEVICE or (status == 0 and count.value == 0):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = "use cpu" if visible is None else f"CUDA_VISIBLE_DEVICES is {visible!r}, which may hide it"
        raise Unavailable(f"cuda: the driver is there, but no device; {hint}")
    if status:
        raise Unavailable(f"cuda: the driver does not start (CUDA error {status}); try nvidia-smi, or restart")


def _check_libraries(cuda: str) -> None:
    """ONNX Runtime loads from the nvidia wheels beside it and prints what it misses; then we ask for each by name, and
    take what is not known by then from the nvidia wheels of this Python, which torch may have brought elsewhere."""
    import onnxruntime as ort

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(ort, "preload_dlls", lambda: None)()
    for name in library_names(cuda):
        cause = _load(name)
        if cause is not None:
            raise Unavailable(f"cuda: the library {name} is missing; pip install 'edgecnn[cuda]'") from cause
    if sys.platform != "win32":
        _load(f"libnvrtc.so.{cuda.split('.')[0]}")  # fused bias is compiled with it; all else does without


def _load(name: str) -> OSError | None:
    """Load `name` from where the system looks, else from the wheels of this Python; the last error if it is nowhere."""
    cause = None
    for place in (name, *_in_wheels(name)):
        try:
            load_library(place)
        except OSError as error:
            cause = error
        else:
            return None
    return cause


def _in_wheels(name: str) -> tuple[str, ...]:
    """Files called `name` in the wheels under `nvidia`, which is a folder of each place that has some."""
    spec = importlib.util.find_spec("nvidia")
    roots = tuple(spec.submodule_search_locations or ()) if spec else ()
    return tuple(str(path) for root in roots for path in sorted(Path(root).glob(f"*/lib/{name}")))
