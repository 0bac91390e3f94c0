"""What a user should hear beside a result, a line each: names and pixels that nobody said, answers that are chance.

    input not told      what was assumed of size and pixels                          (networks/assumptions.py)
    names of folders    classes are in alphabetical order, which training may not have used; 10 comes before 9
    task not told       maps are classes where the data has masks, else numbers, and a file's may be classes
    16-bit pictures     nearly black by the white level that is assumed; pages that nobody reads  (imaging/depth.py)
    floats of 0..255    fed as they are, where pixels become numbers of about -3 to 3
    masks of 0 and 255  255 is class 1
    few images          ranges are guesses
    copies              an image that is there again says nothing new                (data/copies.py)
    one freak image     sets the range of an input, and all others share a few steps
    inputs ignored      forward takes them and makes nothing of them
    top-1 is chance     another order of classes, or other pixels                    (evaluation/chance.py)

Test: tests/test_assumptions.py, tests/test_road.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecnn.data.copies import distinct, independent
from edgecnn.data.data_argument import Spec
from edgecnn.data.folders import by_number
from edgecnn.data.picture_size import common_size, sizes
from edgecnn.data.samples import Samples
from edgecnn.data.unreadable import of_unreadable
from runtimes.base import Array, counted
from runtimes.execution.feeds import TensorInfo
from runtimes.imaging.answered import range_of
from runtimes.imaging.depth import oddities
from runtimes.imaging.keypoints import SHARES
from runtimes.imaging.maps import Seen as Picture
from runtimes.imaging.maps import class_axis, is_whole
from runtimes.imaging.preprocess import CHANNELS, Preprocess
from runtimes.imaging.shown import beyond_pixels
from runtimes.proof.answers import IMAGE, KEYPOINTS, SEGMENTATION

FEW, USUAL = 8, 32
"""Images to calibrate on."""
MOST_READ = 32
"""Samples that are looked at, spread over all."""

ENDS = {"Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
"""What operators make, of those in which networks that answer with pictures or coordinates end."""

OUTSIDE = 0.05
"""Of coordinates that are shares, so many may be left of the input or above it."""

COPIES, FEW_DIFFERENT = 0.05, 16
"""A larger share of copies is told, and any where fewer different images are left."""

if TYPE_CHECKING:
    from edgecnn.data.material import Material
    from edgecnn.networks.sources import Network
    from exporters.quantization.calibration import Calibration, Seen


Tell = Callable[[str], None]
"""Hears a line when it is known, which may be long before the result."""


def unheard(line: str) -> None:
    """What becomes of a warning that is told before the end, where nobody listens; the report has it too."""


def aloud(tell: Tell, lines: tuple[str, ...]) -> tuple[str, ...]:
    """`lines`, after each was told."""
    for line in lines:
        tell(line)
    return lines


def told(*lines: str) -> tuple[str, ...]:
    """The lines that say something, each once."""
    return tuple(dict.fromkeys(line for line in lines if line))


def of_input(network: Network, *specs: Spec | None) -> str:
    """What was assumed of the input of `network`; `specs` are the DATA that it will see."""
    return network.assumption(common_size(specs) if network.assumed.size else None)


def of_stretched(network: Network, *specs: Spec | None) -> str:
    """That `network`, which answers with pictures at one size, is shown those of `specs` at another than their own."""
    ready = network.preprocess
    if network.task != IMAGE or ready is None:
        return ""
    others = sorted(sizes(specs) - {ready.size})
    if not others:
        return ""
    size, own = ("{1}x{0}".format(*one) for one in (others[0], ready.size))
    return (
        f"{network.source}: pictures, as one of {size}, are made {own}, here and in `run`; --dynamic-size shows it "
        "each in its own size"
    )


def of_shades(name: str, task: str, ending: str, ready: Preprocess | None) -> str:
    """That the pictures, or coordinates, with which the model called `name` answers come out of an operator, its
    `ending`, that makes other numbers than those which are taken for black and white, or the edges of the input.
    """
    made, taken = ENDS.get(ending), (0.0, 1.0) if task == KEYPOINTS else range_of(ready)
    known = ready is not None and ready.answer_range is not None
    if task not in (IMAGE, KEYPOINTS) or made is None or taken == made or known:
        return ""
    (low, high), (black, white) = made, taken
    ends = "black and white" if task == IMAGE else "the edges of the input"
    way = f'"answer_range": [{low:g}, {high:g}] in the preprocessing says otherwise'
    return (
        f"{name}: ends in a {ending}, which makes {low:g} to {high:g}, and {black:g} and {white:g} are taken for "
        f"{ends}; {'let it answer that range' if ready is None else way}"
    )


def of_ends(name: str, answers: Array, ready: Preprocess | None) -> str:
    """That coordinates with which the model called `name` `answers` a few images, (n, 2 K) or (n, K, 2), are taken for
    shares of the input, though many lie outside of it; empty for heatmaps, and where they are none.
    """
    told = ready is not None and ready.answer_range is not None
    if told or answers.ndim > 3 or not answers.size or not np.abs(answers).max() <= SHARES:
        return ""
    low, high = answers.min(), answers.max()
    if (answers < 0).mean() <= OUTSIDE:
        return ""
    return (
        f"{name}: answers coordinates from {low:.2g} to {high:.2g}, taken for shares of the input, 0 to 1; "
        '"answer_range": [-1, 1] in the preprocessing, or what else its edges are, says otherwise'
    )


def of_names(samples: Samples, verb: str = "named after") -> str:
    """That folders made the order of the classes of `samples`; empty where something else did, or numbers do too."""
    names = samples.class_names
    if samples.labels is None or not Path(samples.name).is_dir() or by_number(names) == names:
        return ""
    order, way = "in alphabetical order", "--labels FILE says otherwise"
    if by_number(names) is not None:
        order = f"{order}, as ImageFolder counts, and not by number"
        way = "where the network counts otherwise, give the names in its order: --labels FILE"
    return f"classes are {verb} the folders of {samples.name}, {order} ({_shown(names)}); {way}"


def of_task(network: Network) -> str:
    """That nobody said what the maps with which `network` answers are."""
    if network.maps is None:
        return ""
    maps = f"{network.source}: does not say its task and answers with maps of {counted(network.maps, 'channel')}"
    if network.task == SEGMENTATION:
        return f"{maps}: segmentation is assumed, for --data has masks; --task says otherwise"
    picture = ", --task image a picture" if network.maps in CHANNELS else ""
    return (
        f"{maps}: they are compared as numbers, and `run` cannot show them; "
        f"--task segmentation makes them classes{picture}"
    )


def of_maps(name: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], sigmoid: bool) -> str:
    """That the one answer of the file `name`, which is compared as numbers, may be a class for each pixel: it is a map
    of the picture's size, of several channels or (`sigmoid`) out of a Sigmoid.
    """
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 4 or is_whole(outputs[0].dtype):
        return ""
    shape, seen = outputs[0].shape[1:], Picture.of(inputs[0].shape[1:])
    axis = class_axis(shape, seen)
    count, sides = shape[axis], (shape[1 - axis // 2], shape[2 - axis // 2])
    pairs = zip(sides, seen.sides, strict=True)
    alike = all(a == b if isinstance(a, int) else not isinstance(b, int) for a, b in pairs)
    if not alike or not isinstance(count, int) or (count == 1 and not sigmoid):
        return ""
    sizes = ", ".join(str(s) if isinstance(s, int) else "?" for s in shape)
    return (
        f"{name}: does not say its task and answers (N, {sizes}): a class for each pixel? --task segmentation says so; "
        "they are compared as numbers"
    )


def of_masks(samples: Samples) -> str:
    """That 255 is class 1 in the masks of `samples`, or that nobody reads them; empty where there is no doubt."""
    if samples.unread:
        return (
            f"{samples.name}: its {samples.unread} are not used: they are read beside pictures, (N, H, W), and this "
            f"network takes samples of shape {list(samples[0].shape)}; saved as y they are for a function of yours: "
            "--metric FILE.py:NAME"
        )
    if samples.masks is None or not samples.binary_masks():
        return ""
    return (
        f"{samples.name}: its masks hold 0 and 255 alone, and 255 is read as class 1; save class 1 as 1 where 255 "
        "shall count for nothing"
    )


def of_no_names(network: Network, calibration: Samples) -> str:
    """That the class folders of the calibration images name nothing, where they could."""
    if network.labels or calibration.labels is None or len(calibration.class_names) != network.classes:
        return ""
    if not Path(calibration.name).is_dir():
        return ""
    return f"classes have no names: folders of --calib ({calibration.name}) name none; --labels FILE does"


def of_few(calibration: Samples) -> str:
    """That there are too few images to know the ranges by."""
    if len(calibration) >= FEW:
        return ""
    found = counted(len(calibration), "image is", "images are")
    return f"{calibration.name}: {found} few to calibrate on; give {USUAL} and more (8 instead of 128 cost 9 to 10 dB)"


def of_copies(samples: Samples, drawn: int | None = None) -> str:
    """That many of `samples` are copies of others; of `drawn` to calibrate only the different ones are left."""
    count, different = drawn or len(samples), distinct(samples)
    copies = count - different
    if not copies or (copies <= COPIES * count and different >= FEW_DIFFERENT):
        return ""
    said = f"{samples.name}: {copies:,} of {counted(count, 'image')} to"
    if drawn is not None:
        return f"{said} calibrate on are copies of others; ranges stand on {counted(different, 'different one')}"
    worth = f"all are worth {counted(independent(samples), 'different one')}, and intervals count them so"
    return f"{said} judge by are copies of others; {worth}"


def of_images(material: Material) -> tuple[str, ...]:
    """What `material` tells less than the number of its images promises: pictures that cannot be read, copies, and what
    calibrated and judges too.
    """
    judged, drawn = material.judged, len(material.calibration) + material.copies
    broken = of_unreadable(material.calibration, judged)
    many = (*broken, of_copies(material.calibration, drawn), of_copies(judged))
    if not material.repeated:
        return many
    among = f"{material.repeated:,} of the {counted(len(judged), 'image')} that judge are among those that calibrated"
    return (*many, f"{judged.name}: {among}, which flatters the result: judge on images of their own")


def of_lone(calibration: Calibration | None, samples: Samples) -> str:
    """That one of `samples` alone sets the range of the input, and all others share few steps; empty where none does.

    The range is that of the first tensor with the image's own extreme: rewrites may fold the input before it is int8.
    """
    if calibration is None or calibration.images != len(samples):
        return ""
    wide = (seen for seen in calibration.seen if _of_input(seen, samples))
    return next((_alone(seen, samples, *seen.others) for seen in wide if seen.others is not None), "")


def _of_input(seen: Seen, samples: Samples) -> bool:
    """Whether the widest value of `seen` is one that the image which sets its range is fed."""
    if seen.others is None or not seen.channel_low.size:
        return False
    place = seen.others[0]
    fed = [samples[place], *(load(place) for load in samples.others.values())]
    ends = seen.channel_low.min(), seen.channel_high.max()
    widest = max(ends, key=abs)
    return any(widest in (value.min(), value.max()) for value in fed)


def _alone(seen: Seen, samples: Samples, place: int, low: float, high: float) -> str:
    steps = round(256 * (max(high, 0.0) - min(low, 0.0)) / (seen.high - seen.low))
    wide, others = f"{seen.low:.3g} to {seen.high:.3g}", f"{len(samples) - 1:,} others"
    return (
        f"{samples.ids[place]}: alone sets the range of the input, {wide}; the {others} have "
        f"{low:.3g} to {high:.3g}, {counted(steps, 'step')} of 256: mend it, or leave it out"
    )


def of_ignored(network: Network, inputs: Sequence[str]) -> str:
    """That nothing is made of `inputs` of `network`; empty where there are none."""
    if not inputs:
        return ""
    if network.several is None:
        return f"{network.source}: forward makes nothing of its input, so that all answers are the same; mend forward"
    from edgecnn.networks.forward import listed  # it imports torch, and so has whoever has a network

    them = "it" if len(inputs) == 1 else "them"
    return (
        f"{network.source}: forward makes nothing of {listed(inputs)}: what is fed there changes no answer; "
        f"leave {them} out of forward, or mend it"
    )


def of_data(samples: Samples, preprocess: Preprocess | None, guessed: bool = False) -> tuple[str, ...]:
    """That the numbers in `samples` are not what `preprocess` makes of pixels, and what else is odd in its pictures."""
    if preprocess is None or not len(samples):
        return ()
    odd = oddities(samples.name, (samples.look(i) for i in _spread(samples)), preprocess.white)
    return (of_range(samples, preprocess, guessed), *odd)


def _spread(samples: Samples) -> list[int]:
    """As many as are quickly looked at, all over the set."""
    return sorted({round(i) for i in np.linspace(0, len(samples) - 1, MOST_READ)})


def of_range(samples: Samples, preprocess: Preprocess | None, guessed: bool = False) -> str:
    """That the floats in `samples` are far from what `preprocess` makes of pixels; empty where they are not."""
    if not samples.as_is or preprocess is None:
        return ""
    ends = [(float(value.min()), float(value.max())) for value in (samples[i] for i in _spread(samples))]
    where = "by the usual preprocessing" if guessed else "by the model's preprocessing"
    return beyond_pixels(samples.name, min(e[0] for e in ends), max(e[1] for e in ends), preprocess, where)


def _shown(names: tuple[str, ...]) -> str:
    first = ", ".join(name[:20] for name in names[:3])
    return f"{first} ..." if len(names) > 3 else first
