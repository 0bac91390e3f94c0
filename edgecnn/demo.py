"""The whole road on the built-in digits: train, export, fold, quantize, race, choose, pack, and five answers to see.

    DIR/weights.safetensors        what was trained
    DIR/digits.edge                the bundle
    DIR/digit_*.png                five held-out digits that the bundle has answered

The network is MLPerf Tiny's ResNet-8 at twice its width: wide enough that int8 pays on a CPU with VNNI.
Test: tests/test_demo.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgecnn import road
from edgecnn.choosing.choose import Candidate
from edgecnn.data.load import load_data
from edgecnn.data.samples import Samples
from edgecnn.outcomes import BuildReport
from edgecnn.prediction import predict
from edgecnn.training.outcome import TrainReport
from edgecnn.training.train import train
from exporters.artifact import Stage
from runtimes.base import Array, BadInput, Track, silent
from runtimes.files import check_output, replace_whole
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof.answers import Prediction

NETWORK = "resnet8_w32"
DIGITS = "builtin:digits"
"""Whatever lies in the working folder."""
SHOWN = 5
SHADES = " ░▒▓█"
PIXELS = Preprocess(size=(8, 8), channels=1)


@dataclass(frozen=True)
class Shown:
    """One held-out digit: `pixels` uint8 (8, 8), its label, what the bundle answered and how sure it was."""

    path: Path
    pixels: Array
    label: str
    answer: str
    score: float


@dataclass(frozen=True)
class DemoReport:
    """What the demo trained, built and answered."""

    directory: Path
    trained: TrainReport
    built: BuildReport
    digits: tuple[Shown, ...]

    @property
    def training(self) -> str:
        t = self.trained
        return (
            f"trained {t.model} on {t.train_images} digits in {t.seconds:.0f} s: "
            f"top-1 {100 * t.test_accuracy:.1f} % on {t.test_images} held-out ones"
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.built.stages

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.built.candidates

    @property
    def chosen(self) -> str:
        return self.built.chosen

    @property
    def verdict(self) -> str:
        return self.built.verdict

    @property
    def picture(self) -> list[str]:
        """The digits side by side, and below each what the bundle says it is."""
        answers = [f"{d.answer} ({100 * d.score:.0f} %)" + ("" if d.answer == d.label else " !") for d in self.digits]
        return [*draw([d.pixels for d in self.digits]), "".join(f"{text:^16}" for text in answers).rstrip()]

    @property
    def next_commands(self) -> tuple[str, ...]:
        bundle, weights = self.directory / "digits.edge", self.directory / "weights.safetensors"
        return (
            f"edgecnn verify {bundle}",
            f"edgecnn run {bundle} {self.digits[0].path}",
            f"edgecnn bench {bundle}",
            f"edgecnn export {NETWORK} --weights {weights} -o {self.directory / 'float.onnx'}",
        )

    def to_dict(self) -> dict[str, Any]:
        shown = [{"input": str(d.path), "label": d.label, "answer": d.answer, "score": d.score} for d in self.digits]
        return {
            "directory": str(self.directory),
            "trained": self.trained.to_dict(),
            "built": self.built.to_dict(),
            "digits": shown,
            "next": list(self.next_commands),
        }


def demo(
    directory: str | os.PathLike[str] = "edgecnn-demo", *, force: bool = False, seed: int = 0, track: Track = silent
) -> DemoReport:
    """Run the demo into `directory`, which is made; under two minutes on two cores, nothing downloaded.

    Raises `BadInput` when the folder cannot be made or holds results of an earlier run (without `force`).
    """
    folder = _make(Path(directory))
    weights, bundle = (check_output(folder / name, force) for name in ("weights.safetensors", "digits.edge"))
    pictures = [check_output(folder / f"digit_{i}.png", force) for i in range(SHOWN)]
    trained = train(NETWORK, DIGITS, weights, seed=seed, force=force, track=track)
    built = road.build(NETWORK, bundle, weights=weights, calib=DIGITS, data=DIGITS, seed=seed, force=force, track=track)
    assert isinstance(built, BuildReport)  # on the CPU
    return DemoReport(folder, trained, built, _answer(bundle, pictures, seed))


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
    return folder


def _answer(bundle: Path, pictures: list[Path], seed: int) -> tuple[Shown, ...]:
    """Save five held-out digits of different classes as pictures and let the bundle read them from there."""
    samples = load_data(DIGITS, PIXELS, split="test")
    chosen = _different(samples, len(pictures), seed)
    pixels = [np.rint(255 * samples[i][0]).astype(np.uint8) for i in chosen]
    for path, values in zip(pictures, pixels, strict=True):
        with replace_whole(path) as temporary:
            Image.fromarray(values).save(temporary, format="PNG")
    answers = [p for p in predict.run(bundle, pictures, top=1).predictions if isinstance(p, Prediction)]
    assert samples.labels is not None
    return tuple(
        Shown(path, values, samples.class_names[samples.labels[i]], answer.label, answer.score)
        for path, values, i, answer in zip(pictures, pixels, chosen, answers, strict=True)
    )


def _different(samples: Samples, count: int, seed: int) -> list[int]:
    """Indices of `count` samples, each of another class."""
    assert samples.labels is not None
    found: dict[int, int] = {}
    for i in np.random.default_rng(seed).permutation(len(samples)):
        found.setdefault(int(samples.labels[i]), int(i))
    return list(found.values())[:count]


def draw(images: list[Array], shades: str = SHADES) -> list[str]:
    """Lines of text that show uint8 `images` (h, w), 16 being light and 240 dark, side by side; two columns a pixel.

    >>> draw([np.array([[0, 255]], np.uint8)], " #")
    ['  ##']
    """
    wide = np.concatenate(images, axis=1).astype(int)
    return ["".join(2 * shades[v * len(shades) // 256] for v in row).rstrip() for row in wide]
