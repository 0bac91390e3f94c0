"""Keys of a checkpoint that all have one more name in front: those of a network inside another module.

    model.stem.0.weight  ->  stem.0.weight        PyTorch Lightning, and whoever wraps a network to train it

Cut off where all of the file then fits the network and nothing is left over; a file that holds more is refused by the
name of its prefix. `module.` and `_orig_mod.` go before that, whatever fits (weights.py).
Test: tests/test_key_prefix.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from runtimes.base import BadInput

COUNTER = "num_batches_tracked"
"""A BatchNorm's, which older checkpoints lack."""


def prefixes(wanted: Mapping[str, object], given: Iterable[str]) -> list[str]:
    """What stands before all keys of a network in `given`, as before `model.fc.weight` in a Lightning checkpoint.

    >>> prefixes({"fc.weight": 0, "fc.bias": 0}, ["model.fc.weight", "model.fc.bias", "loss.weight"])
    ['model.']
    """
    needed, keys = [key for key in wanted if not key.endswith(COUNTER)], set(given)
    last = next(iter(needed), None)
    found = sorted(key.removesuffix(last) for key in keys if last is not None and key.endswith(f".{last}"))
    return [prefix for prefix in found if all(prefix + key in keys for key in needed)]


def prefix_of(wanted: Mapping[str, object], given: Iterable[str]) -> str:
    """What every key of `given` begins with that the network's do not, where the rest fits it; else empty."""
    keys = list(given)
    own = {prefix: {prefix + key for key in wanted} for prefix in prefixes(wanted, keys)}
    return next((prefix for prefix, known in own.items() if known.issuperset(keys)), "")


def unprefixed(state: Mapping[str, torch.Tensor], wanted: Mapping[str, object]) -> Mapping[str, torch.Tensor]:
    """`state` as the network spells it that `wanted` is of, where all of it has one more name in front."""
    prefix = prefix_of(wanted, state)
    return {key.removeprefix(prefix): value for key, value in state.items()} if prefix else state


def refuse_half_prefixed(wanted: Mapping[str, object], state: Mapping[str, object], subject: str) -> None:
    """Raise `BadInput` where all of the network's keys are in `state` behind a prefix, and others are too."""
    for prefix in prefixes(wanted, state):
        own = {prefix + key for key in wanted}
        others = [key for key in state if key not in own]
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise BadInput(
            f"{subject}: the network's keys begin with {prefix[:40]!r} there, beside {others[0][:60]}{more}; save "
            "those alone, without the prefix"
        )
