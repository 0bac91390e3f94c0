"""What a training came to, as a record. Test: tests/test_train.py, tests/test_fine_tune.py."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgecnn.training.guard import Change
from edgecnn.words import worth
from runtimes.base import counted


@dataclass(frozen=True)
class TrainReport:
    """What a training came to. Scores are shares of 1 in `metric`, of all images that were trained on and of those held
    out; `losses` has the mean of each epoch, `validation` its score on the held-back images (empty without patience).

    For a network that was trained already (`weights`, or before `qat`) `start_score` is the score on held-out images
    that it came with, and `judged` what decided whether it keeps what it learned; where not, `best_epoch` is 0, or the
    last one before `qat`.
    """

    output: str
    model: str
    task: str
    data: str
    classes: int
    metric: str
    epochs: int
    best_epoch: int
    seconds: float
    train_images: int
    validation_images: int
    test_images: int
    train_score: float
    test_score: float
    losses: tuple[float, ...]
    validation: tuple[float, ...]
    seed: int
    qat: bool = False
    start_score: float | None = None
    judged: Change | None = None
    warnings: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Pictures of the data that were left out."""

    @property
    def test_accuracy(self) -> float:
        """`test_score` of a classifier."""
        return self.test_score

    @property
    def verdict(self) -> str:
        images, reached = counted(self.test_images, "held-out image"), worth(self.test_score, "", self.metric)
        if self.start_score is None:
            return f"{self.output}: {self.model} reaches {self.metric} {reached} on {images}."
        began = worth(self.start_score, "", self.metric)
        if self.judged is not None and self.judged.worse:
            return f"{self.output}: {self.model} stays at {self.metric} {began} on {images}."
        change = f"from {began} to {reached}"
        return f"{self.output}: {self.model} goes {change} in {self.metric} on {images}."

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "losses": list(self.losses),
            "validation": list(self.validation),
            "judged": None if self.judged is None else {**asdict(self.judged), "kept_start": self.judged.worse},
            "warnings": list(self.warnings),
            "unreadable": list(self.unreadable),
        }
