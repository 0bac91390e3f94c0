"""Read a bundle: one plain zip file that holds a network, how to feed it, and the proof that it works.

    NAME.edge  =  manifest.json   what it is, how it was made, the SHA-256 of every other member
                  model.onnx      (+ model.onnx.data)        the graph that won the race
                  golden.npz      input_0 (n, C, H, W), output_0 (n, ...): the original network's own answers;
                                  input_1 and so on where it has several inputs
                  golden_size.npz optional                   the same at another height and width
                  float.onnx      optional                   the float graph that it was compared with, for `settle`
                  __main__.py, runtimes/      optional       what `python NAME.edge` runs (runtimes/device)

Nothing is unpacked to disk; a member is hashed every time it is read. The writer is exporters/pack.py and takes names
and format from here. Test: tests/test_bundle.py.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from runtimes import machine
from runtimes.base import Array, BadInput
from runtimes.execution import provider_options
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.several import Several
from runtimes.proof import golden, pixels
from runtimes.proof.archive import Archive, Changed, read_npz
from runtimes.proof.golden import GoldenCheck, golden_bytes
from runtimes.proof.manifest import (
    FLOAT,
    FLOAT_MODEL,
    FORMAT,
    FORMAT_SEVERAL,
    GOLDEN,
    GOLDEN_SIZE,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MODEL,
    MODEL_DATA,
    OTHER_SIZE,
    PYTORCH_MODULE,
    SUFFIX,
    inputs_of,
    parse_manifest,
)
from runtimes.session import Session, open_session

__all__ = [
    "FLOAT",
    "FLOAT_MODEL",
    "FORMAT",
    "FORMAT_SEVERAL",
    "GOLDEN",
    "GOLDEN_SIZE",
    "MANIFEST",
    "MODEL",
    "MODEL_DATA",
    "OTHER_SIZE",
    "SUFFIX",
    "Bundle",
    "Changed",
    "golden_bytes",
    "open_bundle",
    "verify",
]

MAX_GOLDEN_BYTES = 2**28
CONTENT = frozenset([MODEL, MODEL_DATA, GOLDEN, GOLDEN_SIZE, FLOAT_MODEL, f"{FLOAT_MODEL}.data"])
"""Members that are data; all others are code."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, whose members had the right names, sizes and hashes when it was opened."""

    path: Path
    manifest: dict[str, Any]
    archive: Archive = field(repr=False)

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def task(self) -> str:
        return str(self.manifest["task"])

    @property
    def sigmoid(self) -> bool:
        """Whether its answers come out of a Sigmoid, so that yes begins at one half and not at zero."""
        return self.manifest["output"].get("sigmoid") is True

    @property
    def chosen(self) -> str:
        return str(self.manifest["chosen"])

    @property
    def original(self) -> str:
        """Whose outputs the golden ones are: `PyTorch module`, or `float model` where a file was all that was given."""
        return str(self.manifest.get("original", PYTORCH_MODULE))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.manifest["labels"])

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Name, type and shape of each input of the model, in their order."""
        return inputs_of(self.manifest)

    @cached_property
    def several(self) -> Several | None:
        """What is fed to a network of several inputs; None for one input."""
        return Several.told(self.inputs) if len(self.inputs) > 1 else None

    @cached_property
    def preprocess(self) -> Preprocess | None:
        """From an image to the network's input; None for a network that takes no images."""
        settings = self.manifest["preprocess"]
        return None if settings is None else Preprocess.from_dict(settings)

    @property
    def keeps_float(self) -> bool:
        """Whether the float graph is in it too, held to the original's answers as the chosen one is."""
        return FLOAT in self.manifest

    def limits(self, member: str = MODEL) -> dict[str, Any]:
        """How far the answers of the graph `member` may be from the original's: the manifest's entry."""
        found: dict[str, Any] = (self.manifest if member == MODEL else self.manifest[FLOAT])["golden"]
        return found

    @property
    def code(self) -> dict[str, str]:
        """SHA-256 of every member that is no data: the program that `python NAME.edge` runs."""
        return {name: entry["sha256"] for name, entry in self.manifest["files"].items() if name not in CONTENT}

    def read(self, member: str) -> bytes:
        """A member's content; raises `BadInput` when it is missing or no longer what the manifest says."""
        data = self.archive.read(member)
        if hashlib.sha256(data).hexdigest() != self.manifest["files"].get(member, {}).get("sha256"):
            raise Changed(f"{self.path}: {member} was changed after packing; build or copy it again")
        return data

    def external(self, member: str = MODEL) -> dict[str, bytes] | None:
        """The weights that lie beside the model `member`, by the name it calls them; None when it holds its own."""
        data = f"{member}.data"
        return {data: self.read(data)} if data in self.archive.members else None

    def session(self, provider: str = "cpu", threads: int | None = None, member: str = MODEL) -> Session:
        """The model, opened on `provider`; raises `BadInput` when its input is not the one that the manifest names."""
        session = open_session(
            self.read(member), provider, threads, external=self.external(member), subject=f"{self.path}: {member}"
        )
        wanted = [(entry["name"], entry["dtype"]) for entry in self.inputs]
        if [(info.name, info.dtype) for info in session.inputs] != wanted:
            raise BadInput(f"{self.path}: {member} has another input than the manifest says; build it again")
        return session

    def golden(self, member: str = GOLDEN) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """(inputs, outputs) in the order of the model's; the first axis of each counts the samples."""
        arrays = read_npz(self.read(member), f"{self.path}: {member}", MAX_GOLDEN_BYTES)
        inputs, outputs = (_numbered(arrays, kind) for kind in ("input", "output"))
        lengths = {len(a) if a.ndim else 0 for a in (*inputs, *outputs)}
        entry = self.manifest["golden"]
        expected = {(entry if member == GOLDEN else entry[OTHER_SIZE])["images"]}
        if not inputs or not outputs or len(inputs) + len(outputs) != len(arrays) or lengths != expected:
            raise BadInput(f"{self.path}: {member} does not hold the samples of the manifest; build it again")
        return inputs, outputs


@dataclass(frozen=True)
class Verification:
    """The proof on this machine. `hashes` is True: a wrong hash raises `BadInput` before anything runs."""

    hashes: bool
    golden: tuple[GoldenCheck, ...]
    provider: str
    threads: int
    machine: machine.Machine

    @property
    def passed(self) -> bool:
        return self.hashes and bool(self.golden) and all(check.passed for check in self.golden)

    def to_dict(self) -> dict[str, Any]:
        """The document of `edgecnn verify`."""
        return {
            "passed": self.passed,
            "hashes": self.hashes,
            "golden": [check.to_dict() for check in self.golden],
            "provider": self.provider,
            "threads": self.threads,
            "machine": self.machine.to_dict(),
        }


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle and check names, sizes and hashes of all members; raises `BadInput` with the first thing wrong,
    `Changed` where that was right when it was packed.
    """
    path = Path(path)
    try:
        archive = Archive(path, str(path))
    except BadInput as error:
        raise (Changed if _begins_as_bundle(path) else BadInput)(str(error)) from error
    manifest = parse_manifest(archive.read(MANIFEST, MAX_MANIFEST_BYTES), str(path))
    _check_files(archive, manifest["files"])
    bundle = Bundle(path, manifest, archive)
    provider_options.parse("cpu")  # imported while this file has its name: its own program may be what runs here
    try:
        _ = bundle.preprocess  # a wrong setting is found now, not at the first image
    except BadInput as error:
        raise BadInput(f"{path}: {MANIFEST}: {error}") from error
    return bundle


def verify(bundle: Bundle, provider: str = "cpu", threads: int | None = None, member: str = MODEL) -> Verification:
    """Look at the zip itself, hash every member again, make a picture ready, run the golden inputs one by one through
    the graph `member` and compare with the original network's outputs.
    """
    bundle.archive.require_structure()
    _check_files(bundle.archive, bundle.manifest["files"])
    pixels.require_same(bundle.manifest, bundle.preprocess, str(bundle.path))
    session, limits = bundle.session(provider, threads, member), bundle.limits(member)
    entries = {GOLDEN: limits, GOLDEN_SIZE: limits.get(OTHER_SIZE)}
    found = tuple(
        check
        for samples, entry in entries.items()
        if entry is not None
        for check in golden.checks(session, *bundle.golden(samples), entry)
    )
    return Verification(True, found, session.provider, session.threads, machine.describe())


def _begins_as_bundle(path: Path) -> bool:
    """Whether the first member is a manifest, as in all that were ever packed, whatever is wrong behind it."""
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        start = stream.read(30 + len(MANIFEST))  # of a member's header; its name follows
    return start.startswith(b"PK\x03\x04") and start.endswith(MANIFEST.encode())


def _check_files(archive: Archive, files: dict[str, Any]) -> None:
    for name in sorted(archive.members.keys() ^ {MANIFEST, *files}):
        where = "is missing from it" if name in files else "is not in its manifest"
        raise Changed(f"{archive.subject}: {name} {where}; build or copy it again")
    for name, entry in files.items():
        if archive.members[name] != entry["bytes"] or archive.sha256(name) != entry["sha256"]:
            raise Changed(f"{archive.subject}: {name} was changed after packing; build or copy it again")


def _numbered(arrays: dict[str, Array], kind: str) -> tuple[Array, ...]:
    names = itertools.takewhile(arrays.__contains__, (f"{kind}_{i}" for i in itertools.count()))
    return tuple(arrays[name] for name in names)
