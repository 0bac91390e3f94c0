"""Float arrays that a user gives, which go to the network as they are: how pixels are prepared does not concern them.

    nobody says a preprocessing, one channel, float arrays alone  ->  no pictures: a spectrogram, a depth
    a preprocessing is said, float arrays alone                   ->  for what `run` is given later, and a line says so

Test: tests/test_ready_arrays.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgecnn.data.samples import Samples
from runtimes.base import BadInput
from runtimes.imaging.preprocess import FLOAT32, Preprocess

if TYPE_CHECKING:
    from edgecnn.data.material import Material
    from edgecnn.networks.network import Network

PIXELWISE = ("segmentation", "detection")
"""Tasks whose answers lie in a picture."""


def are_ready(seen: Sequence[Samples]) -> bool:
    """Whether all of `seen` are float arrays that somebody gave: made noise tells nothing."""
    return all(samples.as_is and not samples.made for samples in seen)


def refuse_floats(input: str, seen: Sequence[Samples]) -> None:
    """Raise `BadInput` for floats among `seen` that go to the network as they are, where a bundle is to take pixels,
    `input`: it is proven by the same images.
    """
    for samples in seen:
        if input != FLOAT32 and are_ready([samples]):
            raise BadInput(
                f"--input {input}: asks for pixels, and {samples.name} holds floats; give pictures or uint8 arrays, or "
                "leave --input out"
            )


def no_pictures(guessed: Preprocess | None, task: str, seen: Sequence[Samples]) -> bool:
    """Whether a network for `task`, whose preprocessing is `guessed`, is taken not to be for pictures: by its data.

    Three channels are colours as a rule; masks and boxes lie in pictures.
    """
    placed = task in PIXELWISE or any(one.masks is not None or one.targets is not None for one in seen)
    return guessed is not None and guessed.channels == 1 and not placed and are_ready(seen)


def for_arrays(network: Network, task: str, seen: Sequence[Samples]) -> Network:
    """`network` without the preprocessing that nobody said, where all of `seen` are arrays that are ready."""
    if not (network.assumed.pixels and no_pictures(network.preprocess, task, seen)):
        return network
    return replace(network, preprocess=None, assumed=replace(network.assumed, pixels=False))


def of_no_pictures(material: Material) -> bool:
    """The same of a file and its `material`."""
    return material.guessed and no_pictures(material.preprocess, "", (material.calibration, material.judged))


def unprepared(told: str | None, seen: Sequence[Samples]) -> str:
    """The line that the preprocessing that was `told` is not for the data; empty where it is, or none was told."""
    if told is None or not seen or not are_ready(seen):
        return ""
    names = " and ".join(dict.fromkeys(samples.name for samples in seen))
    return (
        f"--preprocess {told}: has no effect on {names}, for float arrays are fed as they are; it is for pictures that "
        "the result is given"
    )
