"""Each thing that CUDA can lack is named: stand-ins for the driver and the libraries, and this very machine."""

import mmap
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
from onnx import parser

import cuda_stand_in
from runtimes.base import BadInput, Unavailable
from runtimes.execution import provider_options
from runtimes.providers import cuda
from runtimes.session import open_session

MODEL = parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }'
).SerializeToString()


class Driver:
    """libcuda.so.1 with so many devices, for CUDA `version` (13000 is 13.0)."""

    def __init__(self, devices: int = 1, version: int = 13000, status: int = 0) -> None:
        self.devices, self.version, self.status = devices, version, status

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDriverGetVersion(self, pointer) -> int:
        pointer._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, pointer) -> int:
        pointer._obj.value = self.devices
        return 0


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch):
    """A computer on which CUDA works; a test takes one thing away. `loaded` lists what was asked for.

    What is `missing` is in no folder either but for the paths in `wheels`, whatever wheels this Python has.
    """
    here = SimpleNamespace(driver=Driver(), missing=set(), wheels=set(), loaded=[])

    def load(name: str):
        here.loaded.append(name)
        if Path(name).name in here.missing and name not in here.wheels:
            raise OSError(f"{name}: cannot open shared object file")
        return here.driver

    monkeypatch.setattr(cuda, "load_library", load)
    monkeypatch.setattr(cuda.sys, "platform", "linux")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcublasLt.so.13"), raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return here


def missing(message: str) -> None:
    with pytest.raises(Unavailable, match=message):
        cuda.require()


def test_nothing_is_missing(computer, capfd: pytest.CaptureFixture[str]) -> None:
    cuda.require()
    assert computer.loaded == ["libcuda.so.1", *cuda.library_names("13.0", "linux"), "libnvrtc.so.13"]
    assert capfd.readouterr() == ("", "")


def test_onnx_runtime_loads_its_libraries_before_we_ask_for_them(computer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks in the wheels beside itself, where the system does not; before 1.21 it had no such function."""
    loaded: list[int] = []
    monkeypatch.setattr(ort, "preload_dlls", lambda: loaded.append(len(computer.loaded)))
    cuda.require()
    assert loaded == [1], "behind the driver alone"
    monkeypatch.delattr(ort, "preload_dlls")
    cuda.require()


def test_a_build_without_cuda(computer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    missing(r"cuda: this onnxruntime .* is built without CUDA; .*onnxruntime-gpu")
    assert computer.loaded == [], "nothing else is tried"


@pytest.mark.parametrize(("platform", "name"), [("linux", "libcuda.so.1"), ("win32", "nvcuda.dll")])
def test_no_driver(computer, monkeypatch: pytest.MonkeyPatch, platform: str, name: str) -> None:
    monkeypatch.setattr(cuda.sys, "platform", platform)
    computer.missing = {name}
    missing(f"cuda: no NVIDIA driver \\({name} does not load\\); install the driver")
    assert computer.loaded == [name]


@pytest.mark.parametrize("driver", [Driver(devices=0), Driver(status=100)])
def test_no_device(computer, driver: Driver) -> None:
    computer.driver = driver
    missing("cuda: the driver is there, but no device; use cpu")


def test_a_hidden_device(computer, monkeypatch: pytest.MonkeyPatch) -> None:
    computer.driver = Driver(status=100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    missing("no device; CUDA_VISIBLE_DEVICES is '-1'")


def test_a_driver_that_is_too_old(computer) -> None:
    computer.driver = Driver(version=12040)
    missing(r"the driver supports CUDA 12.4, onnxruntime needs 13.0; update the driver")


def test_a_newer_driver_is_fine(computer) -> None:
    computer.driver = Driver(version=14010)
    cuda.require()


def test_a_driver_that_does_not_start(computer) -> None:
    computer.driver = Driver(status=803)
    missing(r"does not start \(CUDA error 803\)")


@pytest.mark.parametrize("name", cuda.library_names("13.0", "linux"))
def test_a_missing_library_is_named(computer, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    computer.missing = {name}
    missing(f"cuda: the library {name} is missing; pip install 'edgecnn\\[cuda\\]'")
    assert capfd.readouterr() == ("", ""), "onnxruntime's own print reached the output"


def test_a_library_is_taken_from_the_wheels_of_this_python(
    computer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where ONNX Runtime lies in a folder of its own: it looks for them beside itself only."""
    folder = tmp_path / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True)
    there = folder / "libcudart.so.13"
    there.touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    computer.missing, computer.wheels = {there.name}, {str(there)}
    cuda.require()
    assert computer.loaded[1:4] == [there.name, str(there), "libcublasLt.so.13"]
    computer.wheels.clear()
    missing("the library libcudart.so.13 is missing")


def test_the_libraries_of_this_build_are_on_our_list() -> None:
    """What ONNX Runtime's CUDA library names in its own string table, for its own CUDA version, must be asked for."""
    library = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if not library.is_file():
        pytest.skip("this onnxruntime is built without CUDA")
    major = ort.cuda_version.split(".")[0]
    pattern = rb"\x00(lib(?:cublas|cublasLt|cudart|cufft|cudnn|curand)\.so\.\d+)(?=\x00)"
    with library.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        named = {match.decode() for match in re.findall(pattern, data)}
    named = {name for name in named if name.endswith(f".{major}") or "curand" in name}
    assert len(named) >= 4
    assert named <= set(cuda.library_names(ort.cuda_version, "linux"))


def test_the_compiler_of_fused_kernels_may_be_missing(computer) -> None:
    computer.missing = {"libnvrtc.so.13"}
    cuda.require()
    assert Path(computer.loaded[-1]).name == "libnvrtc.so.13"  # in a wheel, where there are some


def test_windows_has_its_own_names() -> None:
    names = cuda.library_names("13.0", "win32")
    assert names == ("cudart64_13.dll", "cublasLt64_13.dll", "cublas64_13.dll", "cudnn64_9.dll")


def test_tf32_is_off_and_no_algorithm_is_left_to_default() -> None:
    options = cuda.options(cuda.Options())
    assert options == {
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "prefer_nhwc": "0",
        "fuse_conv_bias": "0",
        "enable_cuda_graph": "0",
        "device_id": "0",
    }
    assert cuda.options(cuda.Options(gpu_mem_limit=2**30))["gpu_mem_limit"] == "1073741824"


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (":fuse_conv_bias=1", "prefer_nhwc=1 and use_tf32=1"),
        (":fuse_conv_bias=1,use_tf32=1", "prefer_nhwc=1"),
        (":fuse_conv_bias=1,prefer_nhwc=1", "use_tf32=1"),
    ],
)
def test_a_bias_is_not_fused_where_sums_would_be_wrong(options: str, missing: str) -> None:
    """Bad usage wherever it is asked for, with or without a GPU, before anything else is looked at."""
    with pytest.raises(BadInput, match=f"^cuda: fuse_conv_bias=1 is wrong without {missing}; add it"):
        open_session(MODEL, f"cuda{options}", threads=1)
    with pytest.raises(BadInput, match=missing):
        provider_options.require(f"cuda{options}")


def test_a_bias_is_fused_with_channels_last_and_tensor_cores() -> None:
    chosen = provider_options.parse("cuda:fuse_conv_bias=1,prefer_nhwc=1,use_tf32=1")
    assert cuda.options(chosen.options)["fuse_conv_bias"] == "1"


def test_the_options_are_onnx_runtimes_own() -> None:
    """Its library knows every name; a name that it does not know it would refuse on a GPU only."""
    library = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if not library.is_file():
        pytest.skip("this onnxruntime is built without CUDA")
    names = cuda.options(cuda.Options(gpu_mem_limit=1))
    with library.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert [name for name in names if data.find(b"\0" + name.encode() + b"\0") < 0] == []


def test_a_session_gets_the_options_and_names_those_that_are_not_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    here = cuda_stand_in.install(monkeypatch)
    session = open_session(MODEL, "cuda:use_tf32=1,cudnn_conv_algo_search=EXHAUSTIVE", threads=1)
    assert session.provider == "cuda:use_tf32=1,cudnn_conv_algo_search=EXHAUSTIVE"
    ((name, options),) = here.asked
    assert name == "CUDAExecutionProvider"
    assert (options["use_tf32"], options["cudnn_conv_algo_search"]) == ("1", "EXHAUSTIVE")


def test_an_error_of_the_gpu_while_running_is_unavailable_not_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_stand_in.install(monkeypatch)
    session = open_session(MODEL, "cuda", threads=1)

    def fails(*args):
        raise RuntimeError("CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0")

    monkeypatch.setattr(session.raw, "run", fails)
    with pytest.raises(Unavailable, match=r"cuda cannot run it .*CUDNN_STATUS_INTERNAL_ERROR"):
        session({"x": np.zeros((1, 4), np.float32)})
    with pytest.raises(BadInput, match="input x wants"):  # the caller's mistake stays the caller's
        session({"x": np.zeros((1, 5), np.float32)})


NODE = "[ONNXRuntimeError] : 11 : EP_FAIL : Non-zero status code returned while running Conv node. Name:'stem/Conv' "
FAILURE = (
    "Status Message: /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:129 std::conditional_t<THRW, void, "
    "onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*) CUDNN failure 5000: "
    "CUDNN_STATUS_EXECUTION_FAILED ; GPU=0 ; hostname=host ; file=/onnxruntime_src/conv.cc ; line=482 ; expr=call(); "
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NODE + FAILURE, "Conv (stem/Conv): CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED"),
        (FAILURE, "CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED"),
        ("all compute graph nodes have not been partitioned to the CUDAExecutionProvider", "all compute graph nodes"),
    ],
    ids=["running", "loading", "no failure of a library"],
)
def test_of_an_error_of_the_gpu_what_failed_is_told(text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime tells its own source first, in more characters than a line has."""
    monkeypatch.setattr(cuda, "require", lambda: None)

    def fails(*args, **kwargs):
        raise RuntimeError(text)

    monkeypatch.setattr(ort, "InferenceSession", fails)
    with pytest.raises(Unavailable, match=rf"cannot take it \({re.escape(words)}[^;]*\)$"):
        open_session(MODEL, "cuda", threads=1)


def test_onnx_runtimes_own_logger_is_quiet_before_a_session_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would warn at every session with CUDA, on stderr and past the session's own level."""
    said: list[object] = []
    here = cuda_stand_in.install(monkeypatch)
    monkeypatch.setattr(ort, "set_default_logger_severity", lambda level: said.append((level, len(here.asked))))
    open_session(MODEL, "cuda", threads=1)
    assert said == [(4, 0)]


@pytest.mark.parametrize(
    "command",
    [
        ["check", "MODEL", "MODEL", "--provider", "cuda"],
        ["bench", "MODEL", "--provider", "cuda:use_tf32=1"],
        ["verify", "MODEL", "MODEL", "--provider", "cuda"],
    ],
    ids=lambda command: command[0],
)
def test_the_command_line_without_a_gpu_is_exit_4_and_prints_nothing(command: list[str], tmp_path: Path) -> None:
    try:
        cuda.require()
    except Unavailable as error:
        cause = str(error)
    else:
        pytest.skip("there is a GPU here")
    (tmp_path / "m.onnx").write_bytes(MODEL)
    words = [str(tmp_path / "m.onnx") if word == "MODEL" else word for word in command]
    done = subprocess.run([sys.executable, "-m", "edgecnn", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"error: {cause}\n"


def test_cuda_on_this_machine_fails_fast_and_silently_or_really_runs() -> None:
    """A fresh process, so that the time and the output are all there is."""
    code = (
        "import sys\nfrom runtimes.session import open_session\nfrom runtimes.base import Unavailable\n"
        "data = sys.stdin.buffer.read()\n"
        "try:\n    ran = open_session(data, 'cuda', threads=1).provider\n"
        "except Unavailable as error:\n    ran = str(error)\n"
        "sys.exit(0 if ran.startswith('cuda') else 1)\n"
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], input=MODEL, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    try:
        cuda.require()
    except Unavailable:
        assert time.monotonic() - begin < 3  # 0.3 s here, on a shared machine


def test_a_provider_that_onnxruntime_drops_silently_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where all checks pass and ONNX Runtime still comes back on the CPU alone."""
    monkeypatch.setattr(cuda, "require", lambda: None)
    real = ort.InferenceSession

    def without_cuda(data, options, providers, **kwargs):
        assert kwargs == {"enable_fallback": 0}
        return real(data, options, providers=["CPUExecutionProvider"], **kwargs)

    monkeypatch.setattr(ort, "InferenceSession", without_cuda)
    with pytest.raises(Unavailable, match=r"^cuda: CUDAExecutionProvider refused"):
        open_session(MODEL, "cuda", threads=1)


def test_an_error_of_the_gpu_while_loading_is_unavailable_not_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "require", lambda: None)

    def fails(*args, **kwargs):
        raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")

    monkeypatch.setattr(ort, "InferenceSession", fails)
    with pytest.raises(Unavailable, match="out of memory"):
        open_session(MODEL, "cuda", threads=1)


@pytest.mark.parametrize(
    "text",
    [
        "Exception during initialization: Available memory of 768 is smaller than requested bytes of 192000",
        "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 1048576",
    ],
    ids=["a limit", "what others left"],
)
def test_too_little_memory_is_the_gpus_not_the_models(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """As under `gpu_mem_limit`: another export would not help."""

    def fails(*args, **kwargs):
        raise RuntimeError(text)

    cuda_stand_in.install(monkeypatch)
    session = open_session(MODEL, "cuda", threads=1)
    monkeypatch.setattr(session.raw, "run", fails)
    with pytest.raises(Unavailable, match=r"cuda cannot run it .*memory"):
        session({"x": np.zeros((1, 4), np.float32)})
    monkeypatch.setattr(ort, "InferenceSession", fails)
    with pytest.raises(Unavailable, match=r"CUDAExecutionProvider cannot take it .*memory"):
        open_session(MODEL, "cuda:gpu_mem_limit=1000", threads=1)


@pytest.mark.cuda
def test_the_gpu_really_runs() -> None:
    from runtimes.census import census

    try:
        cuda.require()
    except Unavailable as error:
        pytest.skip(str(error))
    found = census(MODEL, {"x": np.ones((1, 4), np.float32)}, "cuda")
    assert [kernel.provider for kernel in found if kernel.op == "Relu"] == ["cuda"]
