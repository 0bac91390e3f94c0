"""What nobody said of a network's input, and the line that says what was assumed instead.

    size     input_shape, --input-shape, weights of `edgecnn train`; else 224 x 224, what torchvision's networks take
    pixels   preprocess, --preprocess, the same weights; else 0..255 of a file whose graph brings these down itself,
             else ImageNet's statistics, for grey and for channels last x / 127.5 - 1
    layout   "input" in a preprocess file; else as the graph of a file tells; else by the sizes of its input

A wrong guess costs accuracy without an error, so it is told. Test: tests/test_assumptions.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgecnn.networks.layout import Entry, is_ambiguous
from runtimes.imaging.preprocess import Preprocess

Size = tuple[int, int]


@dataclass(frozen=True)
class Assumed:
    size: bool = False
    pixels: bool = False
    layout: bool = False
    levels: str = ""
    """What its graph does with pixels of 0..255, which are assumed for that."""

    @classmethod
    def of_file(cls, preprocess: Preprocess | None, entry: Entry) -> Assumed:
        """Of an ONNX file that says nothing, given a guessed `preprocess`; uint8 pixels go in as they are."""
        if preprocess is None:
            return NOTHING
        doubt, floats = entry.last is None and is_ambiguous(preprocess.shape), preprocess.floating
        return cls(pixels=floats, layout=doubt, levels=entry.levels if floats else "")

    def but_pixels(self, layout: bool = False) -> Assumed:
        """The same where pixels are told; and the `layout` with them."""
        return replace(self, pixels=False, levels="", layout=self.layout and not layout)


NOTHING = Assumed()


def sentence(
    name: str, shape: tuple[int, ...], preprocess: Preprocess | None, assumed: Assumed, seen: Size | None = None
) -> str:
    """What was assumed of the network `name` that eats `shape`; empty for nothing.

    `seen`: (height, width) of all its pictures, where they have one.

    >>> sentence("nets.py:Net", (1, 28, 28), None, Assumed())
    ''
    """
    size, pixels = "x".join(map(str, shape)), _pixels(preprocess, assumed)
    said = {
        (True, True): f"says neither its input size nor its preprocessing: {size} and {pixels} are assumed",
        (True, False): f"does not say its input size: {size} is assumed",
        (False, True): f"does not say its preprocessing: {pixels} {'is' if pixels[0] == 'x' else 'are'} assumed",
        (False, False): "",
    }[assumed.size, assumed.pixels]
    said += f", for its graph {assumed.levels} itself" if said and assumed.levels else ""
    if assumed.layout and preprocess is not None:
        return f"{name}: {_layout(said, preprocess)}"
    if not said:
        return ""
    other = assumed.size and seen is not None and seen != shape[1:]
    found = f", though all the pictures given are {seen[0]}x{seen[1]}" if other and seen is not None else ""
    example = ",".join(map(str, (shape[0], *seen))) if other and seen is not None else "C,H,W"
    options = [*([f"--input-shape {example}"] if assumed.size else []), *(["--preprocess"] if assumed.pixels else [])]
    return f"{name}: {said}{found}; {' and '.join(options)} {'say' if len(options) > 1 else 'says'} otherwise"


def _pixels(preprocess: Preprocess | None, assumed: Assumed) -> str:
    if assumed.levels:
        return "pixels of 0 to 255"
    signed = preprocess is not None and (preprocess.channels != 3 or preprocess.channels_last)
    return "x/127.5 - 1" if signed else "ImageNet's mean and deviation"


def _layout(said: str, preprocess: Preprocess) -> str:
    """That channels first were assumed, behind what else is `said`."""
    last = '"input": "float32-nhwc"'
    if said:
        return (
            f"{said}, and channels first, of {list(preprocess.shape)}; --preprocess says otherwise, and in a .json "
            f"{last} that channels are last"
        )
    way = f"; in a .json of --preprocess {last} says otherwise" if preprocess.floating else ""
    return f"does not say which end of {list(preprocess.shape)} are the channels: the first is assumed{way}"
