"""State dicts: what is written comes back to the bit, what does not fit is named, and hostile files run nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from torch import nn

from edgecnn.networks import zoo
from edgecnn.networks.spec import unit_range
from edgecnn.networks.weights import METADATA_KEY, Trained, apply_weights, load_weights, save_weights
from runtimes.base import BadInput

ABOUT = Trained("lenet5", 2, (1, 32, 32), unit_range(32, 32, 1), ("no", "yes"), "digits", 0.975, 3, "0.1.0")


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4), fc=nn.Linear(4, 2)))


def refusal(path: Path) -> str:
    """The one line with which loading `path` into a module that would fit is refused."""
    with pytest.raises(BadInput) as caught:
        apply_weights(small(), load_weights(path)[0], str(path))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) < 300
    assert "weights_only" not in message  # torch's own text advises to switch the safe mode off
    return message.removeprefix(str(path))


# ---------------------------------------------------------------------------------------------------------- round trips
def test_what_is_saved_comes_back_to_the_bit_and_the_same_module_gives_the_same_bytes(tmp_path: Path) -> None:
    module = small()
    for name in ("a", "b"):
        save_weights(module, tmp_path / f"{name}.safetensors", ABOUT)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    state, about = load_weights(tmp_path / "a.safetensors")
    assert about == ABOUT
    assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())


def test_other_tools_read_what_we_write(tmp_path: Path) -> None:
    save_weights(small(), tmp_path / "w.safetensors", ABOUT)
    with safetensors.safe_open(str(tmp_path / "w.safetensors"), "np") as held:
        assert np.array_equal(held.get_tensor("fc.bias"), small().fc.bias.detach().numpy())
        assert json.loads(held.metadata()[METADATA_KEY])["labels"] == ["no", "yes"]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("legacy", [False, True])
def test_pt_files_in_all_their_wrappings(tmp_path: Path, prefix: str, wrapper: str | None, legacy: bool) -> None:
    state = {prefix + key: value for key, value in small().state_dict().items()}
    held = {wrapper: state, "epoch": 7, "loss": 0.5} if wrapper else state
    torch.save(held, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    module = small()
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    apply_weights(module, load_weights(tmp_path / "w.pt")[0])
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), small().parameters(), strict=True))


def test_a_wrapper_around_one_tensor_alone_is_cut_off_too(tmp_path: Path) -> None:
    torch.save({"module.weight": torch.ones(2)}, tmp_path / "w.pt")
    assert list(load_weights(tmp_path / "w.pt")[0]) == ["weight"]


@pytest.mark.parametrize("key", ["net", "params"])
def test_the_only_state_dict_is_found_by_whatever_name(tmp_path: Path, key: str) -> None:
    optimizer = torch.optim.Adam(small().parameters()).state_dict()
    torch.save({"epoch": 3, "best": torch.tensor(0.5), "opt": optimizer, key: small().state_dict()}, tmp_path / "w.pt")
    state, _ = load_weights(tmp_path / "w.pt")
    assert state.keys() == small().state_dict().keys()


def test_of_several_state_dicts_none_is_guessed(tmp_path: Path) -> None:
    torch.save({"params": small().state_dict(), "params_ema": small().state_dict()}, tmp_path / "w.pt")
    assert refusal(tmp_path / "w.pt") == (
        ": holds several state dicts, as params and params_ema; save the one that is meant alone"
    )


def test_a_mapping_among_tensors_is_not_taken_for_the_weights(tmp_path: Path) -> None:
    torch.save({**small().state_dict(), "extra": {"a": torch.zeros(2)}}, tmp_path / "w.pt")
    assert "extra is no tensor" in refusal(tmp_path / "w.pt")


def test_the_average_of_a_training_has_its_steps_beside_it(tmp_path: Path) -> None:
    torch.save(torch.optim.swa_utils.AveragedModel(small()).state_dict(), tmp_path / "w.pt")
    state, _ = load_weights(tmp_path / "w.pt")
    assert state.keys() == small().state_dict().keys()


def test_checkpoints_from_before_torch_0_4_1_have_no_batch_counter(tmp_path: Path) -> None:
    state = {k: v for k, v in small().state_dict().items() if not k.endswith("num_batches_tracked")}
    apply_weights(small(), state)
    state.pop("bn.running_mean")
    with pytest.raises(BadInput, match=r"bn\.running_mean is missing"):
        apply_weights(small(), state)


def test_half_precision_weights_load_into_single(tmp_path: Path) -> None:
    module = small()
    apply_weights(module, {k: v.half() if v.is_floating_point() else v for k, v in small().state_dict().items()})
    assert module.fc.weight.dtype == torch.float32
    assert torch.equal(module.fc.weight, small().fc.weight.half().float())


# ---------------------------------------------------------------------------------------------------- what does not fit
def test_a_step_counter_in_half_precision_does_not_matter() -> None:
    module, state = small(), {key: value.half() for key, value in small().state_dict().items()}
    apply_weights(module, state)
    assert module.state_dict()["bn.num_batches_tracked"].dtype == torch.int64


def test_misfits_are_named_three_at_a_time_and_the_rest_is_counted() -> None:
    state = zoo.find("resnet8").build(num_classes=3).state_dict()
    with pytest.raises(BadInput) as caught:
        apply_weights(small(), state, "w.pt")
    assert "conv.weight is missing, conv.bias is missing, bn.weight is missing and" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("fc.weight", torch.zeros(5, 4), "fc.weight is 5x4, not 2x4"),
        ("fc.weight", torch.zeros(2, 4, dtype=torch.int8), "fc.weight is torch.int8, not torch.float32"),
        ("fc.weight", torch.full((2, 4), float("nan")), "fc.weight holds NaN or infinity"),
        ("fc.weight", torch.full((2, 4), 1e300, dtype=torch.float64), "fc.weight holds NaN or infinity"),
        ("bn.running_var", torch.tensor([1.0, 1.0, -1.0, 1.0]), "bn.running_var holds a negative variance"),
        ("extra", torch.zeros(1), "extra is unexpected"),
    ],
)
def test_a_tensor_that_does_not_fit_leaves_the_module_untouched(key: str, value: torch.Tensor, complaint: str) -> None:
    module = small()
    changed = {k: v + 1 for k, v in module.state_dict().items()} | {key: value}
    with pytest.raises(BadInput, match=complaint):
        apply_weights(module, changed, "w.pt")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), small().parameters(), strict=True))


# -------------------------------------------------------------------------------------------------------- hostile files
class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.canary),)


def pt(data: bytes, members: dict[str, bytes] | None = None, compress: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compress) as archive:
        for name, body in {"data.pkl": data, "byteorder": b"little", "version": b"3\n", **(members or {})}.items():
            archive.writestr(f"archive/{name}", body)
    return packed.getvalue()


def saved(held: object) -> bytes:
    stream = io.BytesIO()
    torch.save(held, stream)
    return stream.getvalue()


def with_metadata(text: str) -> bytes:
    return safetensors.torch.save(small().state_dict(), {METADATA_KEY: text})


def sized(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


def flipped(data: bytes) -> bytes:
    """One bit changed in the middle of the longest stored tensor: torch.load would not notice."""
    at = data.index(small().conv.weight.detach().numpy().tobytes()) + 40
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def expanded() -> dict[str, torch.Tensor]:
    """A view that claims 2^40 elements of a storage with one."""
    return {"w": torch.zeros(1).expand(1 << 40)}


BAD_FILES = {
    # case: (suffix, bytes, what the message must say)
    "empty": ("pt", b"", "is empty"),
    "text": ("pt", b"hello", "not a PyTorch checkpoint"),
    "truncated": ("pt", saved(small().state_dict())[:-900], "not a PyTorch checkpoint or is damaged"),
    "flipped bit": ("pt", flipped(saved(small().state_dict())), "check sum"),
    "compressed": ("pt", pt(b"", {"data/0": bytes(1 << 20)}, zipfile.ZIP_DEFLATED), "compressed members"),
    "torchscript as it is": ("pt", pt(b"", {"constants.pkl": bytes(99)}, zipfile.ZIP_DEFLATED), "TorchScript program"),
    "torchscript": ("pt", pt(b"", {"constants.pkl": b"", "code/__torch__.py": b""}), "TorchScript program"),
    "no list of tensors": ("pt", pt(b""), "not a PyTorch checkpoint"),
    "whole module": ("pt", saved(small()), "holds more than tensors"),
    "list": ("pt", saved([torch.zeros(1)]), "holds one list"),
    "number": ("pt", saved(7), "holds one int"),
    "no tensors": ("pt", saved({}), "holds no tensors"),
    "int keys": ("pt", saved({1: torch.zeros(1)}), "its keys are no names"),
    "strings": ("pt", saved({"a": "b"}), "a is no tensor"),
    "sparse": ("pt", saved({"w": torch.zeros(2, 2).to_sparse()}), "not a plain dense tensor"),
    "stride 0": ("pt", saved(expanded()), "w is not a plain dense tensor"),
    "deep": ("pt", pt(b"\x80\x02" + b"]" * 20000 + b"a" * 19999 + b"."), "holds one list"),
    "control characters": ("pt", saved({"\x1b[31mw\n": "b"}), r"\x1b[31mw\n is no tensor"),
    "safetensors: header of 2^63 bytes": ("safetensors", sized(b"{}", 1 << 63), "not a safetensors file"),
    "safetensors: no JSON": ("safetensors", sized(b"{not"), "not a safetensors file"),
    "safetensors: metadata is no JSON": ("safetensors", with_metadata("{"), "metadata is damaged"),
    "safetensors: metadata is deep": ("safetensors", with_metadata("[" * 100_000), "metadata is damaged"),
    "safetensors: metadata is a list": ("safetensors", with_metadata("[]"), "metadata is damaged"),
    "safetensors: metadata lacks all": ("safetensors", with_metadata("{}"), "metadata is damaged"),
    "safetensors: labels do not fit": (
        "safetensors",
        with_metadata(ABOUT.to_json().replace('"no", ', "")),
        "1 labels for 2 classes",
    ),
    "unknown suffix": ("onnx", b"x", "unknown kind of weights"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    suffix, data, complaint = BAD_FILES[case]
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(data)
    assert complaint in refusal(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path: Path, legacy: bool) -> None:
    canary, path = tmp_path / "canary", tmp_path / "w.pth"
    payload = pickle.dumps({"w": Payload(canary)}, 2)
    path.write_bytes(payload if legacy else pt(payload))
    assert "mkdir), which could run code; save the weights alone" in refusal(path)
    assert not canary.exists()


def test_a_storage_that_claims_more_than_its_bytes_is_refused(tmp_path: Path) -> None:
    data = saved({"w": torch.zeros(300)})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {m.partition("/")[2]: archive.read(m) for m in archive.namelist()}
    members["data/0"] = b"\0" * 4
    path = tmp_path / "w.pt"
    path.write_bytes(pt(members.pop("data.pkl"), members))
    refusal(path)


def test_an_overlapping_member_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("archive/data.pkl", b"2")
    (tmp_path / "w.pt").write_bytes(packed.getvalue())
    assert "occur twice" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_named_pipe_is_not_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w.{suffix}"
    os.mkfifo(path)
    assert "is a pipe" in refusal(path)


def test_an_endless_device_behind_a_link_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.symlink_to("/dev/zero")
    assert "device" in refusal(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "w.pt")
    assert "is a folder" in refusal(tmp_path)


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.safetensors"))
    save_weights(small(), path)
    assert load_weights(path)[1] is None


# -------------------------------------------------------------------------------------------------------------- writing
def test_an_existing_file_needs_force_and_the_name_must_say_what_it_is(tmp_path: Path) -> None:
    path = save_weights(small(), tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match="exists already; give another name or --force"):
        save_weights(small(), path)
    save_weights(small(), path, force=True)
    with pytest.raises(BadInput, match=r"weights are written as \.safetensors"):
        save_weights(small(), tmp_path / "w.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
