"""Open an ONNX model on the provider that was asked for, or say in one line what is missing.

    bytes | path | ModelProto --open_session--> Session: feeds {name: array} -> outputs {name: array}

ONNX Runtime alone falls back to the CPU in silence, prints to stdout while it does so, and reads a byte-swapped array
as garbage; none of the three happens here. `Session` is a `Runner`. Source: ONNX Runtime's
`onnxruntime_inference_collection.py` and `onnxruntime_session_options_config_keys.h`. Test: tests/test_session.py.
"""

from __future__ import annotations

import functools
import operator
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from runtimes import machine
from runtimes.base import Array, BadInput, Tensors, Unavailable, one_line
from runtimes.execution import provider_options
from runtimes.execution.binding import Binding, Graphs
from runtimes.execution.feeds import TensorInfo, complaint, random_feeds
from runtimes.files import check_input_file

__all__ = ["Model", "Session", "TensorInfo", "complaint", "open_session", "random_feeds"]

MAX_MODEL_BYTES = 2**31 - 1
"""Protobuf's own limit for one message; bigger networks keep their weights in an external file."""
_NOWHERE = os.path.join(os.devnull, "no-external-data")
_MEMORY = "Failed to allocate memory"
_GPU = re.compile(r"cuda|cudnn|cublas|available memory of|failed to allocate memory", re.IGNORECASE)
"""Words of an error that is the device's, not the model's."""
_SOURCE = re.compile(
    r"(/onnxruntime_src/)?[\w./]+\.(cc|h):\d+ (\w+ )?"
    r"|\b[\w:<>*& ]*onnxruntime::.*?\)( \[with .*?\])?(?= [A-Za-z]) "
)
"""Where in ONNX Runtime's source an error was raised: file and line, the signature of the function."""
_RUNNING = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'(.*?)' (Status Message: )?")
_FAILURE = re.compile(r"\b(?:CUDA|CUDNN|CUDNN_FE|CUBLAS|CURAND|CUFFT) failure \d+: [^;]+")
"""Of a GPU's library; what follows is where."""
_NEWER_IR = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_NEWER_OPSET = re.compile(r"Opset (\d+) is under development.*domain (\S+) is till opset (\d+)", re.DOTALL)
_NO_OPERATOR = re.compile(r"(\S+?)\(-?\d+\) is not a registered function|No Op registered for (\S+)")
_NO_KERNEL = re.compile(r"find an implementation for (\S+?)\(\d+\)")
"""What ONNX Runtime says of a model that is newer than itself, or of an operator that it has not at all or not here."""
_UNKNOWN_IR = 64
"""From here on no IR version, but damage."""
_NUMPY = {"float": "float32", "double": "float64"}


class Serializable(Protocol):
    """An `onnx.ModelProto`, without importing onnx to say so."""

    def SerializeToString(self) -> bytes: ...


Model = bytes | str | os.PathLike[str] | Serializable


class Session:
    """A loaded model; calling it runs it. `raw` is the `onnxruntime.InferenceSession`, for what is not wrapped here."""

    def __init__(self, raw: Any, provider: str, threads: int, size_bytes: int, subject: str = "model") -> None:
        self.raw = raw
        self.provider = provider
        self.threads = threads
        self.size_bytes = size_bytes
        self.subject = subject
        self.inputs = tuple(_info(value) for value in raw.get_inputs())
        self.outputs = tuple(_info(value) for value in raw.get_outputs())
        self._output_names = [info.name for info in self.outputs]
        chosen = provider_options.parse(provider).options
        self._graphs = Graphs(raw, provider) if getattr(chosen, "enable_cuda_graph", False) else None

    def __call__(self, feeds: Tensors) -> dict[str, Array]:
        """Outputs by name; raises `BadInput` naming the input, what is wanted and what came."""
        try:
            for value in feeds.values():
                if not value.dtype.isnative:  # ONNX Runtime would read the bytes as they lie
                    raise BadInput(f"{self.subject}: byte-swapped array; use .astype(x.dtype.newbyteorder('='))")
            return self._run(feeds)
        except BadInput:
            raise
        except Exception as error:
            wrong = complaint(self.inputs, feeds)
            if wrong is None and self.provider != "cpu" and _GPU.search(str(error)):
                raise Unavailable(f"{self.subject}: {self.provider} cannot run it ({_reason(error)})") from error
            remedy = (
                "use a smaller input or batch" if _MEMORY in str(error) else "export it again, or give another input"
            )
            cannot = f"ONNX Runtime cannot run it ({_reason(error)}); {remedy}"
            raise BadInput(f"{self.subject}: {wrong or cannot}") from error

    def random_feeds(
        self, batch: int = 1, seed: int = 0, sizes: Mapping[str, tuple[int, ...]] | None = None
    ) -> dict[str, Array]:
        """`random_feeds` for the inputs of this session; a `BadInput` names the model."""
        try:
            return random_feeds(self.inputs, batch, seed, sizes)
        except BadInput as error:
            raise BadInput(f"{self.subject}: {error}") from error

    def bind(self, feeds: Tensors) -> Binding:
        """This session with `feeds` on its device, for runs without copies; raises `BadInput` for what does not fit."""
        wrong = complaint(self.inputs, feeds)
        if wrong is not None:
            raise BadInput(f"{self.subject}: {wrong}")
        return Binding(self.raw, self.provider, feeds) if self._graphs is None else self._graphs.bound(feeds)

    def _run(self, feeds: Tensors) -> dict[str, Array]:
        if self._graphs is None:
            return dict(zip(self._output_names, self.raw.run(self._output_names, feeds), strict=True))
        wrong = complaint(self.inputs, feeds)
        if wrong is not None:
            raise BadInput(f"{self.subject}: {wrong}")
        return self._graphs(feeds)

    def prepare(self, feeds: Tensors) -> Callable[[], object]:
        """What runs `feeds` again and again and costs nothing over `raw.run`; they are checked here, by a first run.

        Where CUDA graphs are recorded it is their replay with the copies, in and out, that `raw.run` has, too.
        """
        self(feeds)
        if self._graphs is not None:
            return functools.partial(self._graphs, dict(feeds))
        return functools.partial(self.raw.run, self._output_names, dict(feeds))

    def __repr__(self) -> str:
        return f"Session({self.subject}, provider={self.provider!r}, threads={self.threads})"


def open_session(
    model: Model,
    provider: str = "cpu",
    threads: int | None = None,
    *,
    optimize: bool = True,
    profile_prefix: str | None = None,
    graph_path: str | None = None,
    external: Mapping[str, bytes] | None = None,
    subject: str | None = None,
    frugal: bool = False,
) -> Session:
    """Load `model` on `provider` with `threads` intra-op threads (None: as many as this process may use).

    `provider` may carry options: `cuda:use_tf32=1` (runtimes/execution/provider_options.py).

    `external` holds the contents of external-data files by the names the model uses; a model that comes as bytes can
    read no other file. `subject` names the model in messages (None: its path, or "model"). `optimize` False runs the
    graph as it is in the file; `graph_path` gets the graph that runs; `frugal` returns memory as soon as it is free,
    which takes time. Raises `BadInput` for what ONNX Runtime cannot load and `Unavailable` for a provider that cannot
    run here.
    """
    asked = provider_options.parse(provider)
    plugin = asked.plugin
    threads = machine.default_threads() if threads is None else operator.index(threads)
    if threads < 1:
        raise BadInput(f"threads {threads}: at least 1 is needed")
    data, folder = _read(model)
    subject = subject or (os.fspath(model) if isinstance(model, (str, os.PathLike)) else "model")
    chosen = plugin.options(asked.options)
    plugin.require()
    options = _options(threads, optimize, profile_prefix, folder)
    if graph_path is not None:
        options.optimized_model_filepath = graph_path
    if frugal:
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    plugin.configure(options)
    external = external or {}
    if external:
        buffers = list(external.values())
        options.add_external_initializers_from_files_in_memory(list(external), buffers, [len(b) for b in buffers])
    raw = _create(subject, data, options, plugin.ORT_NAME, chosen)
    if plugin.ORT_NAME not in raw.get_providers():
        raise Unavailable(f"{asked.name}: {plugin.ORT_NAME} refused this session; run `edgecnn doctor` for the cause")
    size = len(data) + (sum(map(len, external.values())) or _sibling_bytes(model))
    return Session(raw, asked.text, threads, size, subject)


def _info(value: Any) -> TensorInfo:
    inner = re.fullmatch(r"tensor\((\w+)\)", value.type)
    dtype = _NUMPY.get(inner[1], inner[1]) if inner else value.type
    return TensorInfo(value.name, dtype, tuple(value.shape or ()))


def _read(model: Model) -> tuple[bytes, str]:
    """(model bytes, folder of its external data). A path is read here: ONNX Runtime fails on names that are not UTF-8,
    and a model that comes as bytes must find no file at all."""
    if isinstance(model, bytes):
        return model, _NOWHERE
    if isinstance(model, (str, os.PathLike)):
        return _read_file(Path(model)), _folder(model)
    try:
        return model.SerializeToString(), _NOWHERE
    except Exception as error:  # protobuf's own above 2 GiB, which is not imported here
        if isinstance(error, MemoryError):
            raise
        raise BadInput("model: larger than 2 GiB, which no ONNX graph may be; take a smaller network") from error


def _folder(model: str | os.PathLike[str]) -> str:
    """Where the external data of a model file lies; ONNX Runtime cannot be told a folder that is not UTF-8."""
    folder = os.path.dirname(os.path.abspath(model))
    try:
        folder.encode()
    except UnicodeEncodeError:
        return _NOWHERE
    return folder


def _read_file(path: Path) -> bytes:
    try:
        return check_input_file(path, MAX_MODEL_BYTES).read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the disk") from error


def _sibling_bytes(model: Model) -> int:
    """Size of NAME.onnx.data beside NAME.onnx, where this project (and torch) keeps large weights; else 0."""
    if isinstance(model, (str, os.PathLike)):
        sibling = Path(f"{os.fspath(model)}.data")
        return sibling.stat().st_size if sibling.is_file() else 0
    return 0


def _options(threads: int, optimize: bool, profile_prefix: str | None, folder: str) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; the same text on stderr is noise
    # Allocators know no session; nor does the warning, at each one with CUDA, that no plug-in provides it.
    ort.set_default_logger_severity(4)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    if threads > 1:  # spinning threads steal time from each other on a shared machine
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    return options


def _create(subject: str, data: bytes, options: Any, ort_name: str, provider_options: dict[str, str]) -> Any:
    import onnxruntime as ort

    try:
        providers = [(ort_name, provider_options)]
        raw = ort.InferenceSession(data, options, providers=providers, enable_fallback=0)
    except Exception as error:
        newer = _NEWER_IR.search(str(error))
        if newer and int(newer[2]) < int(newer[1]) < _UNKNOWN_IR:
            return _create(subject, data + _ir_version(int(newer[2])), options, ort_name, provider_options)
        if ort_name != "CPUExecutionProvider" and _GPU.search(str(error)):
            raise Unavailable(f"{subject}: {ort_name} cannot take it ({_reason(error)})") from error
        raise BadInput(f"{subject}: {refusal(str(error), _reason(error), ort.__version__)}") from error
    raw.disable_fallback()
    raw._model_bytes = b""  # kept only for the fall-back that is off: a whole copy of the model
    return raw


def _ir_version(number: int) -> bytes:
    """What, behind the bytes of a model, gives it that IR version: of a protobuf field the last value counts.

    An IR version only adds what a file may hold; ONNX Runtime names what it does not know where a file does hold it.
    """
    return bytes((0x08, number))


def refusal(text: str, reason: str, release: str) -> str:
    """Why ONNX Runtime `release` does not load a model, and what to do, by what it said (`text`, in short `reason`).

    >>> refusal("Unsupported model IR version: 10, max supported IR version: 9", "", "1.17")
    'is of IR version 10, onnxruntime 1.17 knows up to 9; install a newer one or `edgecnn simplify --target ort==1.17`'
    """
    newer = f"install a newer one or `edgecnn simplify --target ort=={'.'.join(release.split('.')[:2])}`"
    if found := _NEWER_IR.search(text):
        return f"is of IR version {found[1]}, onnxruntime {release} knows up to {found[2]}; {newer}"
    if found := _NEWER_OPSET.search(text):
        domain = "" if found[2] == "ai.onnx" else f" of {found[2]}"
        return f"is of opset {found[1]}{domain}, onnxruntime {release} knows up to {found[3]}; {newer}"
    if found := _NO_OPERATOR.search(text):
        way = "export it with operators of the ONNX standard, or take a release that has it"
        return f"operator {found[1] or found[2]} is not in onnxruntime {release}; {way}"
    if found := _NO_KERNEL.search(text):
        return f"onnxruntime {release} has no {found[1]} of this opset or these types: use float32, opset 7 or later"
    return f"ONNX Runtime cannot load it ({reason}); export or download it again"


def _reason(error: Exception, limit: int = 160) -> str:
    """ONNX Runtime's message without its prefixes, source places, C++ signatures and line breaks: the node that it ran,
    and what is wrong; of a GPU's, what failed there."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    node, failure = _RUNNING.search(text), _FAILURE.search(text)
    where = f"{node[1]} ({node[2]}): ".replace(" ()", "") if node else ""
    what = failure[0].strip() if failure else _SOURCE.sub("", _RUNNING.sub("", text, count=1))
    return one_line(f"{where}{what}" or type(error).__name__, limit)
