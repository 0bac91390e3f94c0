"""A sized, lazy sequence of images ready for a network, with or without answers; and how it is cut in two.

    labels     int64 (N,)                          one class an image           classification
    masks[i]   uint8 (H, W), 255: do not look      one class a pixel            segmentation  (binary_masks.py)
    targets[i] Target(boxes, labels, ...)          the objects of an image      detection
    truth[i]   numbers of any shape                multi-label, regression, keypoints, a metric of the user's own
    pictures[i] pixels, or numbers of the network  image                        (pairs.py)

Whatever the images come from (`edgecnn/data/load.py`), a sample is float32 (C, H, W), or pixels where the network takes
them, and is made when it is asked for, so a folder of a million photographs costs a list of names; so are masks and
boxes, in pixels of that sample.
Test: tests/test_data.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np

from edgecnn.data.built_in import recorded
from edgecnn.data.readable import read
from runtimes import plugins
from runtimes.base import Array, BadInput, Tensors
from runtimes.imaging.arrays import Rows
from runtimes.imaging.depth import PLAIN, Look
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.shown import Ready as Ready
from runtimes.imaging.shown import finite

TEST_SHARE, SPLIT_SEED = 0.2, 0
HELD_SHARE, HELD_SEED = 0.1, 1
REMEMBERED_BYTES = 32 * 2**20
"""Of samples that are kept once they were made, where the same are wanted again and again."""
IGNORE = 255
"""The value of a mask's pixels that belong to no class and count for nothing."""
T = TypeVar("T")


class Target(NamedTuple):
    """The objects of one image: `boxes` float32 (n, 4) as x1, y1, x2, y2 in its pixels, `labels` int64 (n,).

    A detection is neither right nor wrong in a `crowd`, bool (n,), a region of many objects, and on an object that is
    `difficult`, bool (n,), which need not be found. Crowds are not trained on, difficult objects are.
    """

    boxes: Array
    labels: Array
    crowd: Array
    difficult: Array

    @classmethod
    def of(cls, boxes: Array, labels: Array, crowd: Array | None = None, difficult: Array | None = None) -> Target:
        count = len(labels)
        marked = (np.zeros(count, bool) if marks is None else np.asarray(marks, bool) for marks in (crowd, difficult))
        return cls(np.asarray(boxes, np.float32).reshape(count, 4), np.asarray(labels, np.int64), *marked)

    def only(self, kept: Array) -> Target:
        """The objects for which `kept`, bool (n,), is True."""
        return Target(*(values[kept] for values in self))


@dataclass(frozen=True)
class Samples:
    """`samples[i]` is float32 (C, H, W), made on demand. `labels`, and the classes in `masks` and `targets`, index
    `class_names`; what the data does not tell is None. `mirrored`: left and right may be swapped, classes stay.
    """

    name: str
    ids: tuple[str, ...]
    load: Callable[[int], Array]
    labels: Array | None = None
    class_names: tuple[str, ...] = ()
    masks: Sequence[Array] | None = None
    targets: Sequence[Target] | None = None
    mirrored: bool = False
    as_is: bool = False
    """Numbers that go to the network as they are: nothing is made ready."""
    made: bool = False
    """Noise, which tells nothing of what the network will be given."""
    of: int | None = None
    """How many there were before a limit."""
    others: Mapping[str, Callable[[int], Array]] = field(default_factory=dict)
    """What the further inputs of a network that has several are fed, by their names."""
    category_ids: tuple[int | None, ...] = ()
    """The number that the data itself has for each class, where it has one, as COCO does (class_numbers.py)."""
    read_as: str = ""
    """How the labels that detectors answer are to be read, if they can be; empty where nobody knows."""
    unread: str = ""
    """What the data holds besides and a network that takes no pictures makes nothing of: masks or boxes."""
    truth: Array | None = None
    """A row for each image that is no class: labels, numbers, or what a metric of the user's own knows the meaning of.
    Where there are `class_names`, they are those of its columns.
    """
    binary_masks: Callable[[], bool] = lambda: False
    """Whether 255 in the masks, as they came, was class 1 (binary_masks.py); the first to ask may have to wait."""
    within: str = ""
    """Which part of the data that was named they are: a path below it."""
    look: Callable[[int], Look] = lambda _: PLAIN
    """What there is to the picture of a sample besides its pixels."""
    groups: Array | None = None
    """int (N,): the same number for copies of one image (copies.py); None where there are none, or nobody looked."""
    numbered: bool = False
    """Its labels are whole numbers of which the data need not show the largest."""
    unreadable: tuple[str, ...] = ()
    """The pictures that were left out (readable.py)."""
    pictures: Sequence[Array] | None = None
    """What a network that answers with pictures should make of each image (pairs.py)."""
    preprocess: Preprocess | None = None
    """How pictures were made into samples, where they were."""
    size_of: Callable[[int], tuple[int, int]] | None = None
    """(H, W) of the picture that a sample was made of; None where they came ready."""

    @property
    def recorded(self) -> str:
        """What a file that is given to others calls them: not where they lie."""
        if not self.within:
            return recorded(self.name)
        root = self.name.removesuffix(self.within).rstrip("/")
        return f"{recorded(root)}/{self.within}"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Array:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return finite(read(self.load, self.ids, index), self.ids[index])

    def subset(self, indices: Sequence[int] | Array) -> Samples:
        """The samples at `indices`, in that order."""
        picked = [int(i) for i in indices]
        labels = None if self.labels is None else self.labels[picked]
        ids = tuple(self.ids[i] for i in picked)
        masks, targets = _picked(self.masks, picked), _picked(self.targets, picked)
        pictures = _picked(self.pictures, picked)
        truth, groups = (None if values is None else values[picked] for values in (self.truth, self.groups))
        load, others = _at(self.load, picked), {name: _at(other, picked) for name, other in self.others.items()}
        return replace(
            self, ids=ids, load=load, labels=labels, masks=masks, targets=targets, others=others, truth=truth,
            look=_at(self.look, picked), groups=groups, pictures=pictures,
            size_of=self.size_of and _at(self.size_of, picked),
        )  # fmt: skip

    def remembered(self, limit_bytes: int = REMEMBERED_BYTES) -> Samples:
        """The same samples; those that are asked for first stay in memory, as far as `limit_bytes` go."""
        kept: dict[int, Array] = {}
        left = limit_bytes

        def load(index: int) -> Array:
            nonlocal left
            known = kept.get(index)
            if known is not None:
                return known
            made = self.load(index).view()  # the array itself may be the caller's
            made.flags.writeable = False
            if made.nbytes <= left:
                left -= made.nbytes
                kept[index] = made
            return made

        return replace(self, load=load)

    def without_answers(self) -> Samples:
        return replace(self, labels=None, masks=None, targets=None, truth=None, pictures=None, unread="")

    @property
    def answers(self) -> dict[str, Any]:
        """What it holds as answers, by what they are called."""
        kinds = {"classes": self.labels, "masks": self.masks, "boxes": self.targets, "numbers": self.truth,
                 "pictures": self.pictures}  # fmt: skip
        return {name: answers for name, answers in kinds.items() if answers is not None}

    def truth_of(self, index: int) -> Any:
        """What the data holds as the answer to one image: its row of `truth`, class, mask, `Target` or picture; else
        None.
        """
        kinds = (self.truth, self.labels, self.masks, self.targets, self.pictures)
        return next((answers[index] for answers in kinds if answers is not None), None)

    def with_labels(self, names: Sequence[str]) -> Samples:
        """The same samples, their labels counted as a network with the answers `names` counts them.

        A folder that lacks some of the classes numbers the others differently: match by name, or raise `BadInput`.
        Data that counts its classes and names none has them in the network's order.
        """
        if not self.class_names and self.masks is not None:
            return replace(self, class_names=tuple(names))
        if not self.class_names or not names or tuple(names) == self.class_names:
            return self
        numbers, known = tuple(map(str, range(len(names)))), tuple(names)
        numbered = set(self.class_names) == set(numbers[: len(self.class_names)])
        if numbered and (self.labels is None or not set(names) & set(self.class_names)):
            if self.class_names == numbers[: len(self.class_names)]:
                return replace(self, class_names=known)  # classes that were only numbered
            known = numbers  # the same in folders, which are counted as text
        for name in self.class_names:
            if name not in known:
                raise BadInput(f"{self.name}: {plugins.unknown(name, names, 'class')}")
        place = np.array([known.index(name) for name in self.class_names])
        if self.truth is not None:
            return replace(self, truth=_in_order(self, names), class_names=tuple(names))
        labels = None if self.labels is None else place[self.labels]
        masks, targets = _renumbered_masks(self.masks, place), _renumbered_targets(self.targets, place)
        ids = _renumbered_ids(self.category_ids, place, len(names))
        return replace(self, labels=labels, masks=masks, targets=targets, class_names=tuple(names), category_ids=ids)

    def stack(self) -> Array:
        """All samples at once, float32 (N, C, H, W); for data that fits into memory."""
        return np.stack([self[i] for i in range(len(self))])

    def feeds(self, input_name: str, batch: int = 1) -> Feeds:
        """Batches for the network's input `input_name`, to be walked through as often as needed."""
        return Feeds(self, input_name, batch)

    def batches(self, input_name: str, batch: int = 1) -> Iterator[Tensors]:
        return iter(self.feeds(input_name, batch))


def _at(load: Callable[[int], T], picked: Sequence[int]) -> Callable[[int], T]:
    return lambda i: load(picked[i])


def _picked(things: Sequence[T] | None, picked: Sequence[int]) -> Sequence[T] | None:
    return None if things is None else Rows(len(picked), lambda i: things[picked[i]])


def _in_order(samples: Samples, names: Sequence[str]) -> Array:
    """The columns of the truth in the order of `names`; raises `BadInput` where one of these has none."""
    assert samples.truth is not None
    missing = [name for name in names if name not in samples.class_names]
    if missing:
        raise BadInput(f"{samples.name}: has no column {missing[0]}, which the model answers; add it, or --labels FILE")
    return samples.truth[:, [samples.class_names.index(name) for name in names]]


def _renumbered_masks(masks: Sequence[Array] | None, place: Array) -> Sequence[Array] | None:
    if masks is None:
        return None
    table = np.arange(IGNORE + 1, dtype=np.uint8)
    table[: len(place)] = place
    return Rows(len(masks), lambda i: table[masks[i]])


def _renumbered_ids(ids: Sequence[int | None], place: Array, count: int) -> tuple[int | None, ...]:
    """The ids of `count` classes, of which `place` says which was which; None for a class that had none."""
    known = dict(zip(place.tolist(), ids, strict=False))
    return tuple(known.get(i) for i in range(count)) if ids else ()


def _renumbered_targets(targets: Sequence[Target] | None, place: Array) -> Sequence[Target] | None:
    if targets is None:
        return None
    return Rows(len(targets), lambda i: targets[i]._replace(labels=place[targets[i].labels]))


@dataclass(frozen=True)
class Feeds(Sequence[Tensors]):
    """A sequence of `{input_name: float32 (batch, C, H, W)}`, with what other inputs are fed, made on demand; the last
    batch may be smaller.
    """

    samples: Samples
    input_name: str
    batch: int

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch)

    @overload
    def __getitem__(self, index: int) -> Tensors: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensors]: ...
    def __getitem__(self, index: int | slice) -> Tensors | list[Tensors]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        first = range(len(self))[index] * self.batch
        rows = range(first, min(first + self.batch, len(self.samples)))
        others = {name: np.stack([load(i) for i in rows]) for name, load in self.samples.others.items()}
        return {self.input_name: np.stack([self.samples[i] for i in rows]), **others}


def split_off(samples: Samples, split: str, classes: Array | None = None) -> Samples:
    """`samples`, or one of two disjoint parts of it: of every class one fifth (at least one) is `test`.

    `classes`: those of samples whose labels are read as something else, so that the parts stay the same.
    """
    if split == "all":
        return samples
    test = drawn_part(samples if classes is None else replace(samples, labels=classes), TEST_SHARE, SPLIT_SEED)
    picked = np.flatnonzero(test if split == "test" else ~test)
    if not len(picked):
        raise BadInput(f"{samples.name}: has too few samples to split; give at least two of each class")
    return samples.subset(picked)


def hold_back(samples: Samples) -> tuple[Samples, Samples]:
    """(what is trained on, what is held back to tell when to stop): of every class one tenth, at least one."""
    held = drawn_part(samples, HELD_SHARE, HELD_SEED)
    if held.all():
        raise BadInput(f"{samples.name}: has too few samples to hold some back; leave --patience out")
    return samples.subset(np.flatnonzero(~held)), samples.subset(np.flatnonzero(held))


def drawn_part(samples: Samples, share: float, seed: int) -> Array:
    """bool (N,): `share` of every class, at least one; of all samples where they have no labels."""
    order = np.random.default_rng(seed)
    groups = np.zeros(len(samples), int) if samples.labels is None else samples.labels
    part = np.zeros(len(samples), bool)
    for group in np.unique(groups):
        members = order.permutation(np.flatnonzero(groups == group))
        part[members[: max(1, round(share * len(members)))]] = True
    return part
