"""`edgecnn build --provider cuda`: the float road, float16 beside it, races on the GPU, and a bundle with what won.

    SOURCE -> float road -> float16 and its forms -> search (device_search) -> pack, settings in the manifest

Test: tests/test_device_search.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgecnn import proof, stages
from edgecnn.choosing import device_search
from edgecnn.choosing.device_search import FLOAT, FORMS, HALF, Picked, Racers, form_of
from edgecnn.choosing.trial import Trial
from edgecnn.data.material import Material
from edgecnn.data.pixels import in_words
from edgecnn.data.spread import spread
from edgecnn.networks.sources import Network
from edgecnn.outcomes import SEEDED
from exporters import artifact
from exporters.artifact import Identity, Stage
from exporters.fp16.half import Half
from exporters.fp16.half_probe import convert
from exporters.pack import pack
from exporters.searching.rewriting import attempt_proven
from exporters.targets.cuda_pads import even_pads
from runtimes.base import Tensors, Track
from runtimes.execution.provider_options import Asked
from runtimes.files import check_output
from runtimes.imaging.preprocess import Preprocess
from runtimes.latency import Ratio
from runtimes.parity import compare
from runtimes.session import open_session

IMAGES = 8
"""On which float16 is measured."""


@dataclass(frozen=True)
class DeviceBuildReport:
    """A bundle on disk for a GPU. `picked` has every race, `half` what float16 is and what it left in float32."""

    output: Path
    stages: tuple[Stage, ...]
    picked: Picked
    half: Half
    judged_on: str
    preprocess: Preprocess | None
    size_bytes: int
    seeded: bool
    seconds: float
    warnings: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Pictures of the data that were left out."""

    @property
    def chosen(self) -> str:
        """float or fp16: the graph in the bundle; `provider` says how it is to be run."""
        return self.picked.variant.arithmetic

    @property
    def provider(self) -> str:
        return self.picked.variant.asked.text

    @property
    def verdict(self) -> str:
        return f"{self.picked.verdict}. Run it with --provider {self.provider}"

    @property
    def speedup(self) -> Ratio | None:
        return self.picked.speedup

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know beside the tables."""
        pixels = f"pixels: {in_words(self.preprocess)}"
        return (pixels, f"judged on {self.judged_on}", self.half.words, *([SEEDED] if self.seeded else []))

    def to_dict(self) -> dict[str, Any]:
        return {
            "output": str(self.output),
            "chosen": self.chosen,
            "provider": self.provider,
            "verdict": self.verdict,
            "speedup": self.speedup.to_dict() if self.speedup else None,
            "candidates": [entry.to_dict() for entry in self.picked.tried],
            "half_nodes": self.half.nodes,
            "float_nodes": [{"node": node, "reason": reason} for node, reason in self.half.kept],
            "judged_on": self.judged_on,
            "preprocess": self.preprocess.to_dict() if self.preprocess else None,
            "stages": [stage.to_dict() for stage in self.stages],
            "size_bytes": self.size_bytes,
            "seeded_weights": self.seeded,
            "seconds": round(self.seconds, 2),
            "warnings": list(self.warnings),
            "unreadable": list(self.unreadable),
        }


def build_for(
    asked: Asked,
    output: Path,
    network: Network,
    identity: Identity,
    float_model: onnx.ModelProto,
    done: tuple[Stage, ...],
    reference: stages.Reference,
    material: Material,
    trial: Trial,
    started: float,
    runtime: bool,
    force: bool,
    track: Track,
    racers: Racers | None = None,
    heard: tuple[str, ...] = (),
) -> DeviceBuildReport:
    """Search on the provider `asked` and pack what won; `racers` None: the machine itself. `heard` goes on.

    Raises `BadInput` where `output` appeared meanwhile, unless `force`.
    """
    feeds = material.calibration_feeds[:IMAGES]
    begin = time.perf_counter()
    float_model = even_pads(float_model)
    half = convert(float_model, feeds, threads=trial.threads, track=track)
    took = time.perf_counter() - begin
    models = {FLOAT: float_model}
    if half.nodes:
        more, left_out = forms(float_model, feeds, trial.threads)
        models, heard = {**models, HALF: half.model, **more}, (*heard, *left_out)
    if racers is None:
        racers = device_search.Device(models, trial, feeds[0], reference.noise_db)
    for _ in track((None,), "searching"):
        picked = device_search.search(asked, tuple(models), racers)
    variant = picked.variant
    chosen = models[variant.model]
    session = open_session(chosen, variant.asked.text, trial.threads)
    real_feeds = spread(material.judged, IMAGES).feeds(material.input_name, 1)[:]
    real = stages.Reference(network, real_feeds, reference.output_names, reference.edges)
    parity = compare(real, session, real_feeds)
    stage = artifact.describe("device", chosen, took, parity, f"{variant.name} on {variant.asked.text}")
    road = (*stages.held_to(done, reference), stage)
    written = artifact.write_stages(chosen, road)
    artifact.write_identity(written, identity)
    manifest = about(identity, picked, road, session, network) | material.told
    unproven = pack(check_output(output, force), written, manifest, *proof.golden(real, session), runtime=runtime)
    heard = (*heard, *([unproven] if unproven else []))
    return DeviceBuildReport(
        output, road, picked, half, material.judged_on, network.preprocess, output.stat().st_size, network.seeded,
        time.perf_counter() - started, heard, material.unreadable,
    )  # fmt: skip


def forms(
    model: onnx.ModelProto, feeds: Sequence[Tensors], threads: int
) -> tuple[dict[str, onnx.ModelProto], tuple[str, ...]]:
    """`model` after each of `device_search.FORMS` that changes it, proven equal, in float16; why not others."""
    found, left_out = {}, []
    for name, words in FORMS.items():
        other = attempt_proven(name, model, feeds[:1])
        if isinstance(other, str):
            left_out.append(f"{words}: not tried, {other}")
        elif other.modified:
            found[form_of(HALF, name)] = convert(even_pads(other.model), feeds, threads=threads).model
    return found, tuple(left_out)


def about(
    identity: Identity, picked: Picked, road: tuple[Stage, ...], session: Any, network: Network
) -> dict[str, Any]:
    """The manifest of a bundle for a GPU, but for what the packer knows best."""
    final = picked.final
    return {
        **proof.common(identity, road, session, network.values),
        "chosen": picked.variant.arithmetic,
        "winner": picked.variant.name,
        "provider": picked.variant.asked.text,
        "verdict": picked.verdict,
        "candidates": [entry.to_dict() for entry in picked.tried],
        "race": {
            "clock": final.clock,
            "rounds": final.rounds,
            "times_ms": {name: list(final.times_ms(name)) for name in final.names},
        },
    }
