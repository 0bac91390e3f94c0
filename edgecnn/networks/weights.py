"""State dicts in and out: `.safetensors`, and PyTorch's `.pt` opened with `weights_only=True` and nothing else.

A checkpoint is a stranger's file. Before torch sees a `.pt`, its zip directory is read: members must be stored (a
deflated one can be a bomb), must not overlap, and must have the check sums that they claim (torch does not look). The
unpickler knows tensors only; what it says about other objects is not forwarded, because it advises to switch it off.

`apply_weights` looks at every key, shape, type and value before it changes the module, and names what does not fit.
Files written here carry a `Trained` record in their header, so that later commands need no extra flags.
Test: tests/test_weights.py.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from edgecnn.data.fingerprint import DataSet, known_sets, unmarked
from edgecnn.networks.forward import listed
from edgecnn.networks.key_prefix import COUNTER, refuse_half_prefixed, unprefixed
from edgecnn.networks.spec import PICTURE, Shape
from runtimes.base import BadInput
from runtimes.files import check_input_file, check_output, write_atomic
from runtimes.imaging.preprocess import Preprocess

State = dict[str, torch.Tensor]

LIMIT_BYTES = 4 << 30
PICKLE_LIMIT_BYTES = 64 << 20
METADATA_KEY = "edgecnn"
SAVE = "save the weights alone: torch.save(net.state_dict(), file)"
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel, AveragedModel and torch.compile put in front of every key."""
AVERAGED = "n_averaged"
"""What AveragedModel counts its steps in, beside those keys."""


@dataclass(frozen=True)
class Trained:
    """What a checkpoint says of itself: the network, what it eats and answers, and how it was made.

    `test_score`: share of 1 in `metric` on the held-out part of `data`. `preprocess` None: nobody said it, and arrays
    were learned that are fed as they are.
    """

    model: str
    num_classes: int
    input_shape: Shape
    preprocess: Preprocess | None
    labels: tuple[str, ...]
    data: str
    test_score: float
    seed: int
    edgecnn: str
    task: str = "classification"
    metric: str = "top-1"
    trained_on: tuple[DataSet, ...] = ()
    """All sets that the weights have seen four fifths of, with those of a training that this one went on from."""

    @property
    def settings(self) -> dict[str, Any]:
        """What was known before the training."""
        return {k: v for k, v in asdict(self).items() if k != "test_score"}

    def to_json(self) -> str:
        preprocess = None if self.preprocess is None else self.preprocess.to_dict()
        return json.dumps({**asdict(self), "preprocess": preprocess}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Trained:
        """Raises ValueError, TypeError or KeyError for anything but what `to_json` writes."""
        d = json.loads(text)
        shape = tuple(int(n) for n in d["input_shape"])
        if not shape or min(shape) < 1 or (d["preprocess"] is not None and len(shape) != PICTURE):
            raise ValueError(f"input shape {shape}")
        classes, labels = int(d["num_classes"]), tuple(str(label) for label in d["labels"])
        if len(labels) not in (0, classes):
            raise ValueError(f"{len(labels)} labels for {classes} classes")
        return cls(
            model=str(d["model"]),
            num_classes=classes,
            input_shape=shape,
            preprocess=None if d["preprocess"] is None else Preprocess.from_dict(d["preprocess"]),
            labels=labels,
            data=str(d["data"]),
            test_score=float(d["test_score"]),
            seed=int(d["seed"]),
            edgecnn=str(d["edgecnn"]),
            task=str(d["task"]),
            metric=str(d["metric"]),
            trained_on=known_sets(d["trained_on"]) if "trained_on" in d else unmarked(str(d["data"])),
        )


# ------------------------------------------------------------------------------------------------------------ reading
def load_weights(path: Path | str) -> tuple[State, Trained | None]:
    """The tensors in `path` by name, and what the file says of itself when edgecnn wrote it.

    Raises `BadInput` in one line for a file that is missing, damaged, hostile or holds more than tensors.
    """
    path = check_input_file(Path(path), LIMIT_BYTES)
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        return _load_torch(path), None
    raise BadInput(f"{path}: unknown kind of weights {path.suffix!r}; give a .safetensors, .pt or .pth file")


def _load_safetensors(path: Path) -> tuple[State, Trained | None]:
    try:
        data = path.read_bytes()
        state: State = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError, RecursionError, MemoryError, OSError, OverflowError) as error:
        raise BadInput(f"{path}: is not a safetensors file or is damaged ({_brief(error)}); save it again") from error
    text = (header.get("__metadata__") or {}).get(METADATA_KEY)
    try:
        return check_state(state, path), None if text is None else Trained.from_json(text)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, BadInput) as error:
        raise BadInput(f"{path}: its `{METADATA_KEY}` metadata is damaged ({_brief(error)}); train again") from error


def _load_torch(path: Path) -> State:
    check_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise BadInput(f"{path}: asks for more memory than there is; save it again") from error
    except Exception as error:
        raise BadInput(f"{path}: {_why(error)}") from error
    return check_state(unwrap(held, path), path)


def check_zip(path: Path) -> None:
    """Raise `BadInput` for an archive that `torch.save` does not write: members stored, each once, with true sums.

    A file that is no archive (torch wrote such ones before 1.6) is left to torch.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [m.filename for m in members]
            if any(name.endswith("/constants.pkl") for name in names):
                raise BadInput(f"{path}: is a TorchScript program, not a state dict; {SAVE}")
            if any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size for m in members):
                raise BadInput(f"{path}: has compressed members, which torch.save never writes; save it again")
            if sum(m.file_size for m in members) > path.stat().st_size or len(set(names)) < len(names):
                raise BadInput(f"{path}: has members that overlap or occur twice; save it again")
            if any(m.file_size > PICKLE_LIMIT_BYTES for m in members if m.filename.endswith(".pkl")):
                raise BadInput(f"{path}: its list of tensors is over {PICKLE_LIMIT_BYTES:,} bytes; save it again")
            broken = archive.testzip()
    except (zipfile.BadZipFile, RuntimeError, OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path}: is a damaged checkpoint ({_brief(error)}); save it again") from error
    if broken is not None:
        raise BadInput(f"{path}: is damaged: the check sum of {broken} is wrong; save it again")


def _why(error: Exception) -> str:
    """What to tell the user for an error of torch.load, without forwarding its advice to switch the safe mode off."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found:
        return f"holds more than tensors ({found[1][:80]}), which could run code; {SAVE}"
    return f"is not a PyTorch checkpoint or is damaged; {SAVE}"


def unwrap(held: object, path: Path) -> State:
    """The state dict inside what a checkpoint held: itself, or one entry of a training script's dictionary.

    Under another name than `WRAPPERS` it must be the only one: which of weights and their average is meant nobody says.
    """
    if isinstance(held, Mapping):
        for key in WRAPPERS:
            if isinstance(held.get(key), Mapping):
                return dict(held[key])
        flat = any(isinstance(value, torch.Tensor) and value.ndim for value in held.values())
        found = [key for key, value in held.items() if is_state(value) and not flat]
        if len(found) > 1:
            some = listed([str(key)[:60] for key in found[:3]])
            raise BadInput(f"{path}: holds several state dicts, as {some}; save the one that is meant alone")
        return dict(held[found[0]] if found else held)
    raise BadInput(f"{path}: holds one {type(held).__name__}, not a state dict; {SAVE}")


def is_state(value: object) -> bool:
    """Whether `value` is tensors by name, and nothing else."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, torch.Tensor) for v in value.values())


def check_state(state: Mapping[Any, Any], path: Path) -> State:
    """`state` with wrappers' prefixes cut off, if every key is a name and every value a plain dense tensor."""
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            what = f"{key[:60]} is no tensor" if isinstance(key, str) else "its keys are no names"
            raise BadInput(f"{path}: is not a state dict ({what}); {SAVE}")
        # A view with stride 0 can claim 2^40 elements of a storage that holds one: the first copy would need them all.
        dense = value.layout == torch.strided and not value.is_quantized
        if not dense or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise BadInput(f"{path}: {key[:80]} is not a plain dense tensor; save it with .contiguous()")
    if not state:
        raise BadInput(f"{path}: holds no tensors; {SAVE}")
    for prefix in PREFIXES:
        weights = {key: value for key, value in state.items() if key != AVERAGED}
        if weights and all(key.startswith(prefix) for key in weights):
            state = {key.removeprefix(prefix): value for key, value in weights.items()}
    return dict(state)


# ----------------------------------------------------------------------------------------------------------- applying
def apply_weights(module: nn.Module, state: Mapping[str, torch.Tensor], subject: str = "weights") -> None:
    """Load `state` into `module`, all or nothing; `subject` (the file) opens the message of a `BadInput`.

    A network whose published checkpoints are spelled otherwise, or hold more than is deployed, translates them in a
    method `adapt_state_dict(state) -> state`.
    """
    wanted = module.state_dict()
    state = unprefixed(state, wanted)
    adapt: Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]] = getattr(
        module, "adapt_state_dict", dict
    )
    state = adapt(state)
    # BatchNorm's step counter means nothing at inference: torch before 0.4.1 has none, `.half()` of all makes it float.
    counters = {k: v for k, v in wanted.items() if k.endswith(COUNTER)}
    given = counters | {k: v for k, v in state.items() if not (k in counters and v.is_floating_point())}
    problems = misfits(wanted, given)
    if problems:
        refuse_half_prefixed(wanted, state, subject)
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise BadInput(f"{subject}: does not fit the network: {', '.join(problems[:3])}{more}; give its own weights")
    cast = {k: v.to(wanted[k].dtype) for k, v in given.items()}
    for key, value in cast.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise BadInput(f"{subject}: {key} holds NaN or infinity; train again or give an earlier checkpoint")
        if key.endswith("running_var") and (value < 0).any():
            raise BadInput(f"{subject}: {key} holds a negative variance; the file is damaged, save it again")
    module.load_state_dict(cast)


def misfits(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    """One phrase for each key that is missing, unexpected, or has another shape or kind of number."""
    found = [f"{k[:60]} is missing" for k in wanted if k not in given]
    found += [f"{k[:60]} is unexpected" for k in given if k not in wanted]
    for key in wanted:
        if key in given and given[key].shape != wanted[key].shape:
            found.append(f"{key[:60]} is {_size(given[key])}, not {_size(wanted[key])}")
        elif key in given and given[key].is_floating_point() != wanted[key].is_floating_point():
            found.append(f"{key[:60]} is {given[key].dtype}, not {wanted[key].dtype}")
    return found


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:100]


def classes_in(state: Mapping[str, torch.Tensor], built: Mapping[str, torch.Tensor], classes: int) -> int | None:
    """How many classes the weights were trained for, when they differ from `built` (made for `classes`) only in that.

    It is the first dimension of the tensors that have `classes` there in `built` and something else in `state`.
    """
    found = {
        state[key].shape[0]
        for key, value in built.items()
        if key in state and value.dim() and state[key].dim() == value.dim() and value.shape[0] == classes
        if state[key].shape[0] != classes and state[key].shape[1:] == value.shape[1:]
    }
    return found.pop() if len(found) == 1 else None


# ------------------------------------------------------------------------------------------------------------ writing
def save_weights(module: nn.Module, path: Path | str, trained: Trained | None = None, force: bool = False) -> Path:
    """Write the module's state dict to a `.safetensors` file, whole or not at all; same module, same bytes.

    The record is one entry, because safetensors writes several in an order that changes from run to run.
    """
    path = check_weights_output(Path(path), force)
    state = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    write_atomic(path, safetensors.torch.save(state, {METADATA_KEY: trained.to_json()} if trained else None))
    return path


def check_weights_output(path: Path, force: bool) -> Path:
    """`path`, if weights can be written there; call it before training."""
    if path.suffix != ".safetensors":
        raise BadInput(f"{path}: weights are written as .safetensors; give a name that ends so")
    return check_output(path, force)
