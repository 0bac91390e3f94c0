"""What nobody said of a network's input, and the line that says what was assumed instead.

    size     input_shape, --input-shape, weights of `edgecnn train`; else 224 x 224, what torchvision's networks take
    pixels   preprocess, --preprocess, the same weights; else ImageNet's statistics, for grey and for channels last
             x / 127.5 - 1

A wrong guess costs accuracy without an error, so it is told. Test: tests/test_assumed.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.imaging.preprocess import Preprocess, is_ambiguous

Size = tuple[int, int]


@dataclass(frozen=True)
class Assumed:
    size: bool = False
    pixels: bool = False


NOTHING = Assumed()


def sentence(
    name: str, shape: tuple[int, ...], preprocess: Preprocess | None, assumed: Assumed, seen: Size | None = None
) -> str:
    """What was assumed of the network `name` that eats `shape`; empty for nothing.

    `seen`: (height, width) of all its pictures, where they have one.

    >>> sentence("nets.py:Net", (1, 28, 28), None, Assumed())
    ''
    """
    size = "x".join(map(str, shape))
    signed = preprocess is not None and (preprocess.channels != 3 or preprocess.channels_last)
    pixels = "x/127.5 - 1" if signed else "ImageNet's mean and deviation"
    said = {
        (True, True): f"says neither its input size nor its preprocessing: {size} and {pixels} are assumed",
        (True, False): f"does not say its input size: {size} is assumed",
        (False, True): f"does not say its preprocessing: {pixels} {'are' if 'and' in pixels else 'is'} assumed",
        (False, False): "",
    }[assumed.size, assumed.pixels]
    if not said:
        return ""
    if assumed.pixels and preprocess is not None and is_ambiguous(preprocess.shape):
        return (
            f"{name}: {said}, and channels first, of {list(shape)}; --preprocess says otherwise, and in a .json "
            '"input": "float32-nhwc" that channels are last'
        )
    other = assumed.size and seen is not None and seen != shape[1:]
    found = f", though all the pictures given are {seen[0]}x{seen[1]}" if other and seen is not None else ""
    example = ",".join(map(str, (shape[0], *seen))) if other and seen is not None else "C,H,W"
    options = [*([f"--input-shape {example}"] if assumed.size else []), *(["--preprocess"] if assumed.pixels else [])]
    return f"{name}: {said}{found}; {' and '.join(options)} {'say' if len(options) > 1 else 'says'} otherwise"
