"""From a network to the float graph that is deployed, each step compared with the PyTorch module.

    export -> simplify -> fold_batchnorm -> ...          every stage: parity >= 90 dB, seconds, bytes, operators

The passes and the limit are those of `float_passes`. A network whose own float32 noise is larger than 90 dB is held to
that instead, and the stage says so: the module against itself in float64, with its weights a unit in the last place
off, which is what a fold rounds, and with sigmoids that are right to a unit of 1 only. Where values travel to the
places of maxima (unpooling), one draw of it tells little: DeconvNet's range from 38 to 69 dB. A detector must also find
the same boxes, each within a thousandth of a pixel of its counterpart, again up to its own noise. Test:
tests/test_road.py.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import torch

from edgecnn import open_size
from edgecnn.coarse_sigmoids import with_coarse_sigmoids
from edgecnn.data.resized import resized
from edgecnn.data.samples import Ready, Samples
from edgecnn.data.spread import spread
from edgecnn.data.textures import textures
from edgecnn.float_passes import FLOAT_LIMIT_DB, FLOAT_PASSES, NOISE_MARGIN_DB, run_pass
from edgecnn.networks.network import INPUT_NAME as INPUT_NAME
from edgecnn.networks.network import Network
from edgecnn.proof import looked_at
from exporters import artifact
from exporters.artifact import Stage
from exporters.load import SIZE_LIMIT_BYTES
from exporters.suppression import edges_of
from exporters.torch_export import DEFAULT_OPSET, export_module, module_runner
from runtimes.base import BadInput, CheckFailed, Runner, Tensors, Track, one_line, silent
from runtimes.comparing.matching import NAMES as DETECTIONS
from runtimes.comparing.matching import Edges
from runtimes.imaging.preprocess import Preprocess
from runtimes.parity import ParityReport, compare
from runtimes.session import open_session

BOX_LIMIT_PX = 1e-3
NOISE_DRAWS = 3
OUTPUTS = {"classification": ("logits",), "segmentation": ("logits",), "detection": DETECTIONS}
"""Names of a network's outputs by its task; `output`, or `output_0` ..., for any other."""


def require_room(network: Network) -> None:
    """Raise `BadInput` for a network whose weights alone have more bytes than a graph may: before hours of exporting.

    The checker, shape inference and ONNX Runtime each take a graph as one message of Protocol Buffers.
    """
    module = network.module
    size = sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
    if size > SIZE_LIMIT_BYTES:
        raise BadInput(
            f"{network.source or network.name}: has {size / 1e9:.1f} GB of weights, and an ONNX graph that can be "
            f"checked has at most {SIZE_LIMIT_BYTES / 1e9:.1f} GB; export a smaller network, or its parts one by one"
        )


class Reference:
    """The PyTorch module's outputs on `feeds`, computed once; calling it with one of those feeds looks them up.

    `edges` are those of a detector's graph.
    """

    def __init__(
        self, network: Network, feeds: Sequence[Tensors], output_names: Sequence[str], edges: Edges | None = None
    ) -> None:
        self.network, self.feeds, self.output_names, self.edges = network, feeds, tuple(output_names), edges
        run = module_runner(network.module, self.output_names)
        self.outputs = {id(feed): run(feed) for feed in feeds}

    def __call__(self, feeds: Tensors) -> Tensors:
        return self.outputs[id(feeds)]

    def parity(self, candidate: Runner) -> ParityReport:
        return compare(self, candidate, self.feeds, edges=self.edges)

    @functools.cached_property
    def noise(self) -> ParityReport:
        """The module against what rounding makes of it, the worst draw: no graph can be asked to be closer.

        Code that says its types itself (`x.half()`) may not run in float64; then the draws tell alone.
        """
        double = module_runner(copy.deepcopy(self.network.module).double(), self.output_names)

        def in_double(feed: Tensors) -> Tensors:
            return double({name: value.astype(np.float64) for name, value in feed.items()})

        exact = list[ParityReport]()
        with contextlib.suppress(RuntimeError):
            exact.append(compare(in_double, self, self.feeds, edges=self.edges))
        draws = (rounded_otherwise(self.network.module, seed) for seed in range(NOISE_DRAWS))
        runs = (module_runner(module, self.output_names) for module in draws)
        run = module_runner(self.network.module, self.output_names)
        others = (*runs, with_coarse_sigmoids(run))
        return min((*exact, *map(self.parity, others)), key=lambda report: report.worst_db)

    @property
    def noise_db(self) -> float:
        return self.noise.worst_db


def in_pixels(
    network: Network, judged: Samples, preprocess: Preprocess, names: Sequence[str]
) -> tuple[Reference, list[Tensors]]:
    """(the module on a few of the images `judged`, which are pixels as `preprocess` says; these as feeds)."""
    given = list(spread(judged, looked_at(network.task)).feeds(INPUT_NAME, 1))
    floats: list[Tensors] = [
        {INPUT_NAME: preprocess.floats(feed[INPUT_NAME][0], network.channels_last)[None]} for feed in given
    ]
    return Reference(network, floats, names), given


def at_two_sizes(network: Network, reference: Reference, judged: Sequence[Tensors]) -> Reference:
    """The module on the first of the images `judged`, as it is and at the last of the sizes of `reference`."""
    image, size = judged[0][INPUT_NAME], reference.feeds[-1][INPUT_NAME].shape[2:]
    other = resized(image, size)
    return Reference(network, [{INPUT_NAME: image}, {INPUT_NAME: other}], reference.output_names, reference.edges)


def rounded_otherwise(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A copy of `module` each of whose weights is the next number above or below, as the `seed` draws it."""
    twin, draw = copy.deepcopy(module), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in twin.parameters():
            up = torch.rand(weight.shape, generator=draw) < 0.5
            weight.copy_(torch.nextafter(weight, torch.where(up, torch.inf, -torch.inf).to(weight.dtype)))
    return twin


def made_images(network: Network, dynamic: bool, seed: int, other: Ready | None = None) -> list[Tensors]:
    """Seeded textures, preprocessed as photographs would be, as batches of 1 and 3 where the batch is free.

    There is a third feed for an `other` height and width.
    """
    rng = np.random.default_rng(seed)
    feeds: list[Tensors] = [network.made(n, rng) for n in ((1, 3) if dynamic else (1, 1))]
    return [*feeds, *([{INPUT_NAME: textures(other, 1, rng)}] if other is not None else [])]


def sizes_of(feeds: Sequence[Tensors]) -> str:
    """`64x64 and 81x74`."""
    sizes = ("x".join(map(str, feed[INPUT_NAME].shape[2:])) for feed in feeds)
    return " and ".join(dict.fromkeys(sizes))


def output_names(model: onnx.ModelProto) -> tuple[str, ...]:
    return tuple(value.name for value in model.graph.output)


def float_road(
    network: Network,
    *,
    opset: int = DEFAULT_OPSET,
    dynamic: bool = True,
    dynamic_size: bool = False,
    skip: Sequence[str] = (),
    seed: int = 0,
    track: Track = silent,
) -> tuple[onnx.ModelProto, tuple[Stage, ...], Reference]:
    """Walk the float part of the road; raises `CheckFailed` at the first stage that is no longer the same function.

    `dynamic_size` leaves height and width open and proves every stage at two sizes; raises `BadInput` for a network
    that is tied to one: by its own word (its attribute `one_size` says why), in PyTorch, or by the exporter.
    """
    steps: list[str] = ["export", *(name for name in FLOAT_PASSES if name not in skip)]
    other, sized = open_size.found(network) if dynamic_size else (None, "")
    feeds = made_images(network, dynamic, seed, other)
    sizes = {INPUT_NAME: (1, *network.input_shape)} if dynamic_size else None
    model, reference, stages = onnx.ModelProto(), None, []
    parity: ParityReport | None = None
    for name in track(steps, "exporting"):
        started, given = time.perf_counter(), model
        if reference is None:
            model = _export(network, opset, dynamic, dynamic_size)
            note = f"{sized}, proven at {sizes_of(feeds)}" if dynamic_size else ""
            reference = Reference(network, feeds, output_names(model), edges_of(model))
            if dynamic_size:
                open_size.require_graph(network, open_session(model), reference, feeds[-1])
        else:
            model, note = run_pass(name, model, sizes, fold="fold_batchnorm" in steps)
        seconds = time.perf_counter() - started
        changed = model != given
        del given  # its weights, while a session makes two more copies of the others
        if parity is None or changed:
            parity = reference.parity(open_session(model))
        stages.append(artifact.describe(name, model, seconds, parity, note))
        _require(stages[-1], parity, reference)
    assert reference is not None
    return model, tuple(stages), reference


def _export(network: Network, opset: int, dynamic: bool, dynamic_size: bool) -> onnx.ModelProto:
    try:
        return export_module(
            network.module,
            network.shapes,
            opset_version=opset,
            dynamic_batch=dynamic,
            dynamic_size=dynamic_size,
            input_name=INPUT_NAME,
            output_names=OUTPUTS.get(network.task, ("output",)),
        )
    except BadInput as error:
        if not dynamic_size:
            raise
        raise BadInput(f"{one_line(str(error), 220)}; it may without --dynamic-size") from error


def _require(stage: Stage, parity: ParityReport, reference: Reference) -> None:
    px = {"boxes": BOX_LIMIT_PX} if parity.matching else None
    if not parity.failures(snr_db=FLOAT_LIMIT_DB, max_abs=px):
        return
    limit = min(FLOAT_LIMIT_DB, reference.noise_db - NOISE_MARGIN_DB)
    if px is not None:
        own = next(output.max_abs for output in reference.noise.outputs if output.name == "boxes")
        px = {"boxes": max(BOX_LIMIT_PX, own * 10 ** (NOISE_MARGIN_DB / 20))}
    try:
        parity.require(snr_db=limit, max_abs=px)
    except CheckFailed as error:
        raise CheckFailed(f"stage {stage.name}: {error} (against the PyTorch module)") from error


def held_to(stages: Sequence[Stage], reference: Reference) -> tuple[Stage, ...]:
    """`stages`, with the network's own float noise noted where that, and not 90 dB, was the limit."""
    if all(stage.snr_db is None or stage.snr_db >= FLOAT_LIMIT_DB for stage in stages):
        return tuple(stages)
    noise = f"own float32 noise of this network: {reference.noise_db:.0f} dB"
    return tuple(
        replace(s, note=f"{s.note}; {noise}".lstrip("; ")) if (s.snr_db or 0) < FLOAT_LIMIT_DB else s for s in stages
    )
