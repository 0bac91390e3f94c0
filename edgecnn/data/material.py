"""The images of one run: those that set the int8 ranges, and those on which the result is judged.

    calibration   the train part of a set that has one, at most `limit` images, labels not used
    judged        --data: the test part of it, labelled where it can be; without it images of the same set that did not
                  calibrate, unlabelled, 299 where that is quick; where none are left, those that did
    copies        calibrate once, and of those that did none judges, where enough others are left    (copies.py)

A set that the model's weights have learned from has parts too: what that training held out is its test part.
Both go through the preprocessing that the model carries, which is also the one it is deployed with.
Test: tests/test_material.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import onnx

from edgecnn.data.classes import counted_alike, refuse_from_one, whose_classes
from edgecnn.data.copies import apart, distinct, once
from edgecnn.data.data_argument import Data, InMemory, Spec
from edgecnn.data.fingerprint import fingerprint, is_among, is_marked
from edgecnn.data.load import load_data
from edgecnn.data.model_input import one_at_a_time, said, shaped, usual
from edgecnn.data.one_set import both
from edgecnn.data.parts import part
from edgecnn.data.pixels import in_words, says_layout
from edgecnn.data.samples import Ready, Samples
from edgecnn.data.table import rows_for
from edgecnn.data.unreadable import unreadable_in
from edgecnn.evaluation.own_metric import OwnMetric
from edgecnn.networks.assumptions import NOTHING, Assumed
from edgecnn.networks.entry import entry_of
from edgecnn.tasks import EMBEDDING, MULTI_LABEL, NUMBERS, REGRESSION
from exporters.artifact import Identity
from exporters.ending import SIGMOID, ending_of
from runtimes.base import BadInput, Tensors, Track, counted, silent
from runtimes.comparing.two_classes import class_count, is_one_score
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.several import Several
from runtimes.imaging.shown import sample_shape
from runtimes.session import Session, TensorInfo, open_session

CLASSES = "classification"
BY_IMAGE = (CLASSES, MULTI_LABEL, "detection")
"""Tasks where so many images show a budget, as if all answers for an image changed together."""
JUDGED, JUDGE_SECONDS = 299, 20.0
"""Images that show at 95 %, where no answer changes, that at most 1 % do; where a model answers them in that time."""
ENOUGH = 30
"""Different images that judge alone, without those that calibrated too; fewer tell of the draw and not of the model."""


@dataclass(frozen=True)
class Material:
    """`calibration` and `judged` images for a model whose first input is called `input_name`, made `ready` for it."""

    input_name: str
    ready: Ready | Several
    calibration: Samples
    judged: Samples
    assumed: Assumed = NOTHING
    """What nobody said of the model's input."""
    unused: str = ""
    """Why labels that were given cannot be used."""
    metric: str = ""
    """The user's own, where one judges."""
    fingerprint: str = ""
    """Of what calibrates, without its limit."""
    copies: int = 0
    """Images drawn to calibrate that are copies of others, and are not used."""
    left_out: int = 0
    """Images given to judge that calibrated, and do not judge."""
    repeated: int = 0
    """Those that do all the same, for too few others are left."""

    @property
    def guessed(self) -> bool:
        """Nobody said how pixels become the model's input."""
        return self.assumed.pixels

    @property
    def as_is(self) -> bool:
        """All images are numbers that go to the model as they are: its preprocessing is not used."""
        return self.calibration.as_is and self.judged.as_is

    @property
    def pixels(self) -> str:
        """What is done with the images, in words."""
        if not self.as_is:
            return in_words(self.preprocess) + (" (assumed)" if self.guessed else "")
        fed = "the arrays given are fed as they are"
        return fed if self.guessed or self.preprocess is None else f"{in_words(self.preprocess)}; {fed}"

    def measured_by(self, own: OwnMetric | None) -> Material:
        """The same, judged by the user's `own` metric where there is one, which needs no labels."""
        return self if own is None else replace(self, metric=own.METRIC, unused="")

    @property
    def calibration_feeds(self) -> Sequence[Tensors]:
        return self.calibration.feeds(self.input_name, 1)

    @property
    def preprocess(self) -> Preprocess | None:
        return self.ready if isinstance(self.ready, Preprocess) else None

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the model's inputs for one image."""
        if isinstance(self.ready, Several):
            return {name: (1, *shape) for name, shape in self.ready.shapes.items()}
        return {self.input_name: (1, *sample_shape(self.ready))}

    @property
    def judged_on(self) -> str:
        """`359 labelled images of digits`, or what else the verdict stands on."""
        name = self.judged.recorded
        if self.metric:
            which = " that calibrated" if self.judged.ids == self.calibration.ids else ""
            return f"{counted(len(self.judged), 'image')} of {name}{which}{self._without}, by {self.metric}"
        if self.judged.answers:
            return f"{counted(len(self.judged), 'labelled image')} of {name}{self._without}"
        same = self.judged.ids == self.calibration.ids
        what = f"whose labels cannot be used ({self.unused})" if self.unused else "without labels"
        images = f"the same images {what}" if same else f"{counted(len(self.judged), 'image')} {what}"
        other = self.judged.name == self.calibration.name and not same and not self.repeated
        which = " that did not calibrate" if other else self._without
        return f"{images}{which}: answers are compared with the float graph's"

    @property
    def _without(self) -> str:
        return f" ({self.left_out:,} that calibrated left out)" if self.left_out else ""

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Pictures that are left out."""
        return unreadable_in(self.calibration, self.judged)

    @property
    def told(self) -> dict[str, str]:
        """What a bundle's manifest says of the images."""
        return {"judged_on": self.judged_on} | ({"labels_unused": self.unused} if self.unused else {})


def material_for(
    model: onnx.ModelProto,
    identity: Identity | None,
    calib: Data | InMemory,
    data: Data | InMemory | None,
    limit: int,
    seed: int,
    input_shape: str | None = None,
    preprocess: str | None = None,
    own: OwnMetric | None = None,
    name: str = "model",
    skip_unreadable: bool = False,
    track: Track = silent,
) -> Material:
    """Load `calib` and `data` as `model` wants to see them, or as `preprocess` says.

    `skip_unreadable` leaves out pictures that cannot be read, and draws others to calibrate in their place.

    Where the user's `own` metric judges, `y` of the data is for that. `name` is the model's in messages.
    Raises `BadInput` when they do not fit together.
    """
    seen, judge = both(calib, data)
    session = open_session(model, subject=name)
    one_at_a_time(session, name)
    known = identity.preprocess if identity else None
    ready, assumed = ready_for(model, session, known, input_shape, preprocess, name)
    labels = identity.labels if identity else ()
    task, kept = read_for(identity, model, session) if own is None else (identity.task if identity else CLASSES, True)
    sets, mark = identity.trained_on if identity else (), fingerprint(seen)
    learned = is_marked(mark, sets)
    asked = own is not None and own.asks_truth
    rows = rows_for(seen, task, asked and (judge is None or judge == seen))
    load = partial(load_data, seed=seed, task=rows, as_truth=kept, sift=track if skip_unreadable else None)
    drawn = load(seen, ready, limit=limit, split=part("train", seen, judge, learned))
    calibration, used = once(drawn.remembered(), track)
    left_out = repeated = 0
    if judge is None:
        enough = JUDGED if limit < JUDGED and task in BY_IMAGE and is_quick(session, ready) else limit
        draw = partial(held_out, load, seen, ready, drawn, learned=learned)
        judged = unseen(draw, used, enough, track) or calibration
        judged = judged.without_answers() if own is None else judged
    else:
        split = part("test", judge, seen, learned if judge == seen else is_among(judge, sets))
        judged = load(judge, ready, split=split, task=rows_for(judge, task, asked))
        judged = judged if own is not None or task == EMBEDDING else with_model_labels(judged, labels, session)
        judged, left_out, repeated = apart(judged.remembered(), used, ENOUGH, track)
    made = Material(
        session.inputs[0].name, ready, calibration, judged, assumed, fingerprint=mark,
        copies=len(drawn) - len(calibration), left_out=left_out, repeated=repeated,
    )  # fmt: skip
    return made.measured_by(own)


def ready_for(
    model: onnx.ModelProto, session: Session, known: Preprocess | None, input_shape: str | None,
    preprocess: str | None, name: str,
) -> tuple[Ready | Several, Assumed]:  # fmt: skip
    """(how a sample is made ready for `model`: as it is `known`, as the user says, else as usual; what was assumed)."""
    entry = entry_of(model)
    ready: Ready | Several
    ready = shaped(session, input_shape, known, entry) if input_shape else known or usual(session, name, entry)
    guessed = known is None and isinstance(ready, Preprocess)
    assumed = Assumed.of_file(ready, entry) if guessed and isinstance(ready, Preprocess) else NOTHING
    if preprocess is None:
        return ready, assumed
    return said(ready, preprocess), assumed.but_pixels(says_layout(preprocess))


def read_for(identity: Identity | None, model: onnx.ModelProto, session: Session) -> tuple[str, bool | None]:
    """(the task that data is read for, whether its `y` are no classes; None: what `y` looks like).

    Of a model that says nothing, one number or several that come out of a Sigmoid may be classes or not.
    """
    if identity is not None:
        return identity.task, identity.task in NUMBERS
    outputs = session.outputs
    if len(outputs) != 1 or len(outputs[0].shape) > 2:
        return CLASSES, False
    if is_one_score(outputs[0].shape):
        return REGRESSION, None
    return (MULTI_LABEL, None) if ending_of(model) == SIGMOID else (CLASSES, False)


def unseen(draw: Callable[[int], Samples | None], used: Collection[bytes], enough: int, track: Track) -> Samples | None:
    """About `enough` different images that `draw` gives and that are not in `used`; more are drawn where some are
    copies. None where there is no other.
    """
    others = draw(enough)
    if others is None:
        return None
    judged, _, repeated = apart(others.remembered(), used, 1, track)
    lacking = enough - distinct(judged) + repeated
    if len(others) == enough and lacking:
        judged, _, repeated = apart((draw(enough + 2 * lacking) or others).remembered(), used, 1, track)
    return None if repeated else judged


def held_out(
    load: Callable[..., Samples], spec: Spec, ready: Ready | Several, calibration: Samples, limit: int,
    learned: bool = False,
) -> Samples | None:  # fmt: skip
    """At most `limit` images of `spec` that did not calibrate: its test part, or what is left; None where nothing is.

    Ranges and biases fit the images that set them, so that these flatter int8. `load` is `load_data`, with what all
    calls of it have in common.
    """
    if part("test", spec, None, learned) == "test":
        return load(spec, ready, limit=limit, split="test")
    used = len(calibration) + len(calibration.unreadable)
    if calibration.of is None or used >= calibration.of:
        return None
    return load(spec, ready, limit=limit, skip=used)


def is_quick(session: Session, ready: Ready | Several) -> bool:
    """Whether the model answers `JUDGED` images in `JUDGE_SECONDS`, by the better of two."""
    fixed = all(isinstance(size, int) for info in session.inputs for size in info.shape[1:])
    shapes = ready.shapes if isinstance(ready, Several) else {session.inputs[0].name: sample_shape(ready)}
    # images may be loaded as another model takes them, which is made of this one (`--input uint8-nhwc`)
    feeds = session.random_feeds(1, 0, {} if fixed else {name: (1, *shape) for name, shape in shapes.items()})
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        session(feeds)
        taken.append(time.perf_counter() - began)
    return min(taken) * JUDGED <= JUDGE_SECONDS


def tells_classes(outputs: Sequence[TensorInfo]) -> bool:
    """Whether `outputs` are a score for each of so many classes, which top-1 takes, or one score for two."""
    shape = outputs[0].shape
    return len(outputs) == 1 and len(shape) in (1, 2) and class_count(shape) is not None


def with_model_labels(samples: Samples, labels: Sequence[str], session: Session) -> Samples:
    """`samples` with its labels counted as the model counts its classes; as they are where it has none to count.

    Class names are looked up among the model's `labels`; a classifier without names must have as many outputs, and for
    classes that are only numbered as many at least.
    Raises `BadInput` when that does not fit.
    """
    if samples.masks is not None or samples.targets is not None or samples.truth is not None:
        return samples.with_labels(labels)
    shape = session.outputs[0].shape
    if samples.labels is None or not tells_classes(session.outputs):
        return samples
    refuse_from_one(samples, class_count(shape))
    if not labels and not counted_alike(samples, shape):
        one = is_one_score(shape)
        named = "give its names in their order: --labels FILE, or --task embedding if they are identities"
        way = "--task regression if it is a number" if one else named
        raise BadInput(f"{whose_classes(samples, 'the model', shape)}; {way}")
    return samples.with_labels(labels)
