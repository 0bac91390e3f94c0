"""From what a user types to a PyTorch network that is ready to export: `resolve("path/to/nets.py:Net", weights=...)`.

    resnet18                    a network of the zoo
    path/to/nets.py:Net         a callable in a file that returns an nn.Module (a class, a function, or a module itself)
    package.module:build        the same in an importable module
    torchvision:resnet50        a network of an installed library, never with its weights
    timm:mobilenetv3_small_100

Weights decide what the user did not say: a file written by `edgecnn train` knows its classes, shape and preprocessing;
from any other state dict the number of classes is read off the layer whose first dimension differs. The code of a
network may say its `input_shape`, `preprocess`, `labels`, `task`, `answer` and `decode` (own_attributes.py).

Without weights the network is random, drawn from seed 0, and says so (`seeded`), but where its code loads its own.
Networks of the zoo and of libraries then also get live BatchNorm statistics: with the initial ones MobileNetV2's signal
dies on the way (depthwise layers drawn with fan-out shrink it by the square root of their channels), and nothing after
that means anything.
Test: tests/test_sources.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgecnn.data.samples import Ready
from edgecnn.data.textures import textures
from edgecnn.detection.decoding import decoded
from edgecnn.detection.heads import liven
from edgecnn.detection.raw import Head
from edgecnn.networks import callables, hugging_face, libraries, of_timm, ultralytics, zoo
from edgecnn.networks.answer import maps_of, task_of
from edgecnn.networks.assumptions import Assumed, Size
from edgecnn.networks.axes import AXES, axes_of, first_channels
from edgecnn.networks.chosen_output import answering, unused
from edgecnn.networks.ending import ending_of
from edgecnn.networks.forward import InputShape, picture_of, refuse_for, taken
from edgecnn.networks.key_prefix import prefix_of, unprefixed
from edgecnn.networks.lazy import sized
from edgecnn.networks.network import Network as Network
from edgecnn.networks.own_attributes import carried, preset
from edgecnn.networks.probing import SEED as SEED
from edgecnn.networks.probing import probe as probe
from edgecnn.networks.spec import (
    PICTURE,
    Beside,
    Blueprint,
    Shape,
    image_shape,
    planes_of,
    preprocess_for,
    preprocess_of,
    shape_of,
)
from edgecnn.networks.unwrapped import in_float32, unwrapped
from edgecnn.networks.weights import State, Trained, apply_weights, classes_in, load_weights
from edgecnn.tasks import NUMBERS, OTHER, require
from runtimes.base import BadInput, counted
from runtimes.imaging.preprocess import CHANNELS, Preprocess, layout_of
from runtimes.imaging.several import Several


def resolve(
    source: str | nn.Module,
    weights: Path | str | None = None,
    input_shape: InputShape | None = None,
    num_classes: int | None = None,
    decode: str | None = None,
    task: str | None = None,
    answer: str | int | None = None,
) -> Network:
    """The network that `source` names (or is), with `weights` loaded, tried twice on an input of its shape.

    `decode` names the raw head that it answers with, which is then decoded to boxes; `task` is what it is for,
    and `answer` which of several outputs counts (chosen_output.py).
    `input_shape` is of its one input, or of several by their names (forward.py).

    Raises `BadInput` for names, weights and shapes that do not fit, `Unavailable` for a library that is not installed.
    """
    plan = blueprint(source)
    state, trained = load_weights(weights) if weights is not None else (None, None)
    if num_classes is None and trained is not None and plan.classes is not None:
        num_classes = trained.num_classes
    fed = trained.input_shape if input_shape is None and trained is not None else input_shape
    module = build(plan, state, num_classes, f"{weights} ({trained.model})" if trained else str(weights), shape=fed)
    drawn = state is None and not isinstance(source, nn.Module)
    seeded = drawn and (plan.ours or is_drawn(plan, module, num_classes, fed))
    prefix = prefix_of(module.state_dict(), state or ())
    require(task)
    module = ultralytics.told(module)
    library = hugging_face.said(module) or of_timm.said(module)
    plan = as_told(carried(plan, module, task, library), task, trained)
    asked, several = taken(plan, module, input_shape)
    asked = turned(asked, trained or plan) if isinstance(input_shape, Beside) else asked
    network = describe(plan, module, trained, asked) if several is None else fed_as_is(plan, module, several)
    called = source if isinstance(source, str) else network.name
    head = plan.decode if decode is None else Head.of(decode)
    network, made = answering(in_float32(network), plan, answer, called, by_task=head is None)
    module = network.module
    if head is not None:
        if several is not None:
            refuse_for(several.names, f"{plan.name}.decode" if decode is None else f"--decode {decode}")
        known = len(network.labels) or None
        module = decoded(module, head, made, picture_size(network), known, network.name)
        network = replace(network, module=module)
        made = probe(network)
    means, classes = task_of(plan, module, made, network.input_shape)
    line = network.said or unused(plan, made, means, called)
    if state is None and plan.ours and several is None:
        settle(module, network.preprocess or network.input_shape)
    file = None if weights is None else str(weights)
    tasked = plan.tasked or plan.ours or trained is not None
    maps = maps_of(made, network.planes) if means == OTHER and not tasked else None
    ending = "" if plan.ours else ending_of(network.answer, network.made(1, np.random.default_rng(SEED)))
    sets = trained.trained_on if trained else ()
    network = replace(network, said=line, ending=ending, tasked=tasked, maps=maps, trained_on=sets, prefix=prefix)
    return replace(network, task=means, weights=file, seeded=seeded, classes=classes, source=called)


# -------------------------------------------------------------------------------------------------------- finding it
def blueprint(source: str | nn.Module) -> Blueprint:
    """What stands behind a SOURCE; imports it, but builds nothing yet. A module stands for itself, weights and all."""
    if isinstance(source, nn.Module):
        return Blueprint(type(source).__name__, lambda: source, None, ours=False)
    place, colon, name = source.rpartition(":")
    if not colon:
        if source.endswith(".py"):
            raise BadInput(f"{source}: names no network; write {source}:NAME")
        if source.endswith(".onnx"):
            bundled = f"`edgecnn quantize {source} -o NAME.edge --calib DATA` makes a bundle of it"
            raise BadInput(f"{source}: is exported already; {bundled}")
        spec = zoo.find(source)
        known = (spec.input_shape, spec.preprocess, spec.task, spec.labels, spec.epochs)
        return Blueprint(source, spec.build, spec.num_classes, *known)
    if not place or not name:
        raise BadInput(f"{source}: unknown source; give a zoo name, FILE.py:NAME, MODULE:NAME or torchvision:NAME")
    if place == "torchvision":
        return libraries.torchvision(name)
    return libraries.timm(name) if place == "timm" else _own(place, name)


def _own(place: str, name: str) -> Blueprint:
    found = callables.find(place, name)
    target, where = found.target, f"{place}:{name}"
    return Blueprint(
        name,
        lambda **kwargs: callables.call(found, where, **kwargs),
        None if isinstance(target, nn.Module) else callables.default_classes(target),
        ours=False,
        source=where,
        target=target,
        home=found.home,
    )


def as_told(plan: Blueprint, task: str | None, trained: Trained | None) -> Blueprint:
    """`plan` for the `task` that somebody said, else that its weights have learned where these are no classes."""
    if task is None and trained is not None and trained.task in NUMBERS:
        task = trained.task
    return plan if task is None else replace(plan, task=task, tasked=True)


# ------------------------------------------------------------------------------------------------------- building it
def build(
    plan: Blueprint, state: State | None, num_classes: int | None, subject: str, seed: int = SEED,
    shape: InputShape | None = None,
) -> nn.Module:  # fmt: skip
    """The module with `state` in it, in evaluation mode; random values come from a forked generator with `seed`.

    `shape` is that of its input, as the user says it, for layers that are as large as that makes them (lazy.py).
    """
    if num_classes is not None and plan.classes is None:
        raise BadInput(f"{plan.name}: takes no num_classes; leave --num-classes out, or add the argument to it")
    if num_classes is None and state is None and plan.classes == callables.TELL_CLASSES:
        raise BadInput(f"{plan.name}: its num_classes has no default; give --num-classes N")
    with torch.random.fork_rng(devices=[]):
        classes = num_classes or (plan.classes if plan.classes != callables.TELL_CLASSES else 2)
        module = _seeded(plan, classes, seed, shape)
        if state is not None and num_classes is None and classes is not None:
            found = classes_in(unprefixed(state, module.state_dict()), module.state_dict(), classes)
            module = module if found is None else _seeded(plan, found, seed, shape)
    if state is not None:
        apply_weights(module, state, subject)
    return module.eval()


def _seeded(plan: Blueprint, classes: int | None, seed: int, shape: InputShape | None) -> nn.Module:
    torch.manual_seed(seed)
    made = plan.build() if classes is None else plan.build(num_classes=classes)
    return sized(plan, unwrapped(made, plan.source or plan.name), shape)


def is_drawn(plan: Blueprint, module: nn.Module, num_classes: int | None, shape: InputShape | None = None) -> bool:
    """Whether the values of `module` are drawn: another seed gives others, code that loads its own the same."""
    try:
        other = build(plan, None, num_classes, plan.name, SEED + 1, shape).state_dict()
    except BadInput:  # it can be called once
        return False
    mine = module.state_dict()
    return any(name not in other or not torch.equal(value, other[name]) for name, value in mine.items())


def turned(fixed: Shape | None, known: Blueprint | Trained) -> Shape | None:
    """The (C, H, W) that a file fixes, as the network takes it of which so much is `known`: (H, W, C) where that says
    channels last.
    """
    own, said = known.input_shape, known.preprocess
    last = said.channels_last if said is not None else own is not None and layout_of(own) == "NHWC"
    return None if fixed is None else shape_of(fixed, last)


def describe(plan: Blueprint, module: nn.Module, trained: Trained | None, shape: Shape | None) -> Network:
    """Fill in what is left open: what the user says, else the weights, else the source, else the first convolution."""
    known = trained or plan
    told = shape or known.input_shape
    if told is None and known.preprocess is not None:
        told = shape_of((first_channels(module), *known.preprocess.size), known.preprocess.channels_last)
    if told is None and axes_of(module) != PICTURE:
        wanted = AXES[axes_of(module)]
        raise BadInput(
            f"{plan.name}: does not say its input shape; give --input-shape {wanted}, or `input_shape` on it"
        )
    shape = told or (first_channels(module), 224, 224)
    said = known.preprocess
    if plan.preset and known is plan and len(shape) == PICTURE:
        said = preset(plan.preset, shape, f"{plan.source or plan.name}.preprocess")
    channels = planes_of(shape, said is not None and said.channels_last)[0]
    if known is plan and said is not None and said.channels != channels:
        said = of_channels(plan, said, channels)
    preprocess = said
    if preprocess is None or preprocess.shape != shape:
        preprocess = made_for(plan.name, shape, preprocess)
    unsaid = preprocess is not None and (said is None or said.channels != preprocess.channels)
    assumed = Assumed(told is None, unsaid)
    return Network(plan.name, module, shape, preprocess, plan.task, known.labels or plan.labels, assumed=assumed)


def made_for(name: str, shape: Shape, said: Preprocess | None) -> Preprocess | None:
    """`said` for an input of `shape`, (C, H, W) or, as it may say, (H, W, C); None where that is no picture.

    Raises `BadInput` for channels last that are not those of a picture.
    """
    if said is None or not said.channels_last:
        return preprocess_for(shape, said)
    if len(shape) != PICTURE or shape[-1] not in CHANNELS:
        raise BadInput(f"{name}.preprocess: input {said.input!r}; the network takes {list(shape)}: mend one")
    return preprocess_of((shape[0], shape[1], shape[2]), said)


def fed_as_is(plan: Blueprint, module: nn.Module, several: Several) -> Network:
    """A network of several inputs, which are given to it as they are."""
    return Network(plan.name, module, picture_of(several), None, plan.task, plan.labels, several=several)


def of_channels(plan: Blueprint, said: Preprocess, channels: int) -> Preprocess:
    """What `plan` says of pixels for a network of so many channels; raises `BadInput` where its own says of others."""
    if plan.any_channels and channels in CHANNELS:
        try:
            return replace(said, channels=channels)
        except BadInput as error:
            raise BadInput(f"{plan.name}.{error}; the network takes {counted(channels, 'channel')}") from error
    if plan.ours or channels not in CHANNELS:
        return said
    raise BadInput(
        f"{plan.name}.preprocess: is for {counted(said.channels, 'channel')}, the network takes {channels}; mend one"
    )


def picture_size(network: Network) -> Size:
    """(height, width) of its input; raises `BadInput` where that is no picture."""
    _, height, width = image_shape(network.planes)
    return height, width


def settle(module: nn.Module, ready: Ready) -> None:
    """Give an untrained module's BatchNorms the statistics of seeded pictures, so that its activations live.

    A detector's answers are spread as well, so that it finds something.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    pictures = torch.from_numpy(textures(ready, 4, np.random.default_rng(SEED)))
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        module(pictures)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()
    liven(module, pictures)
