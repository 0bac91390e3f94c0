"""An interrupted training, kept beside its output: `w.safetensors.resume`, written whole after every epoch.

It holds what `Learner.state()` says and the settings that it belongs to; going on with others would give weights that
no single command gives, so that is refused. torch's own format, opened with `weights_only=True`: it keeps how tensors
lie in memory, which decides the last bits of a sum. Test: tests/test_resume.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from edgecnn.networks.weights import check_zip
from runtimes.base import BadInput
from runtimes.files import check_input_file, write_atomic

SUFFIX = ".resume"
LIMIT_BYTES = 16 << 30


def place_of(output: Path) -> Path:
    return output.with_name(output.name + SUFFIX)


def check_place(output: Path, resume: bool, force: bool) -> None:
    """Raise `BadInput` when there is nothing to resume, or when an interrupted training would be lost."""
    path = place_of(output)
    if resume and not path.exists():
        raise BadInput(f"{path}: no such file, so nothing to resume; leave --resume out to begin")
    if path.exists() and not (resume or force):
        raise BadInput(f"{path}: an interrupted training; go on with --resume, or begin anew with --force")


@contextlib.contextmanager
def told(output: Path, resume: bool) -> Iterator[None]:
    """Inside, an interruption carries a note on what is kept beside `output`, and how to go on from there."""
    path, before = place_of(output), _stamp(output)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and path.exists() and (resume or _stamp(output) != before):
            error.add_note(f"{path} keeps the epochs that are done; go on with the same command and --resume")
        raise


def _stamp(output: Path) -> int:
    path = place_of(output)
    return path.stat().st_mtime_ns if path.exists() else 0


def save(output: Path, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    stream = io.BytesIO()
    torch.save({"settings": json.dumps(dict(settings)), **state}, stream)
    write_atomic(place_of(output), stream.getvalue())


def load(output: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The state beside `output`; raises `BadInput` for a damaged file and for one that belongs to other `settings`."""
    path = check_input_file(place_of(output), LIMIT_BYTES)
    try:
        check_zip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a damaged file might be
            found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        belongs = json.loads(found["settings"])
    except Exception as error:  # torch says it in many ways; its advice to switch the safe mode off is not forwarded
        raise BadInput(f"{path}: is damaged; remove it and begin anew") from error
    wanted = json.loads(json.dumps(dict(settings)))
    for key in sorted(wanted.keys() | belongs.keys()):
        if wanted.get(key) != belongs.get(key):
            before, now = (str(values.get(key))[:60] for values in (belongs, wanted))
            raise BadInput(
                f"{path}: was begun with {key} {before}, not {now}; give the same arguments, or --force anew"
            )
    return found
