"""What a user should hear beside a result, a line each: names and pixels that nobody said, answers that are chance.

    input not told      what was assumed of size and pixels                          (networks/assumed.py)
    names of folders    classes are in alphabetical order, which training may not have used
    top-1 is chance     another order of classes, or other pixels                    (evaluation/chance.py)

Test: tests/test_assumed.py, tests/test_road.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.data.picture_size import common_size
from edgecnn.data.samples import Samples

if TYPE_CHECKING:
    from edgecnn.networks.sources import Network


def told(*lines: str) -> tuple[str, ...]:
    """The lines that say something, each once."""
    return tuple(dict.fromkeys(line for line in lines if line))


def of_input(network: Network, *specs: str | None) -> str:
    """What was assumed of the input of `network`; `specs` are the DATA that it will see."""
    return network.assumption(common_size(specs) if network.assumed.size else None)


def of_names(samples: Samples, verb: str = "named after") -> str:
    """That folders made the order of the classes of `samples`; empty where something else did, or numbers did."""
    if samples.labels is None or not Path(samples.name).is_dir() or all(n.isdigit() for n in samples.class_names):
        return ""
    return (
        f"classes are {verb} the folders of {samples.name}, in alphabetical order "
        f"({_shown(samples.class_names)}); --labels FILE says otherwise"
    )


def of_no_names(network: Network, calibration: Samples) -> str:
    """That the class folders of the calibration images name nothing, where they could."""
    if network.labels or calibration.labels is None or len(calibration.class_names) != network.classes:
        return ""
    if not Path(calibration.name).is_dir():
        return ""
    return f"classes have no names: folders of --calib ({calibration.name}) name none; --labels FILE does"


def _shown(names: tuple[str, ...]) -> str:
    first = ", ".join(name[:20] for name in names[:3])
    return f"{first} ..." if len(names) > 3 else first
