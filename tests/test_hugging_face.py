"""Modules of another package's kind: what their configuration says is understood. The package is not needed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from edgecnn.networks import hugging_face
from edgecnn.networks.sources import resolve

NAMES = {0: "cat", 1: "dog", 2: "cow"}


class PreTrainedModel(nn.Module):
    """As theirs are: a configuration, and a dict of outputs of which some may be None."""

    __module__ = "transformers.modeling_utils"

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(**{"id2label": NAMES, "num_channels": 3, **config})
        self.conv = nn.Conv2d(self.config.num_channels, 3, 3, 2)


class ResNetForImageClassification(PreTrainedModel):
    __module__ = "transformers.models.resnet.modeling_resnet"

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor | None]:
        return {"loss": None, "logits": self.conv(x).mean((2, 3)), "hidden_states": None}


class MobileNetV2ForSemanticSegmentation(ResNetForImageClassification):
    __module__ = "transformers.models.mobilenet_v2.modeling_mobilenet_v2"

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor | None]:
        return {"logits": self.conv(x)}


class LevitForImageClassificationWithTeacher(PreTrainedModel):
    """Two heads, and their mean before them."""

    __module__ = "transformers.models.levit.modeling_levit"

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor | None]:
        made = self.conv(x).mean((2, 3))
        return {"logits": made, "cls_logits": made + 1, "distillation_logits": made - 1}


class Elsewhere(ResNetForImageClassification):
    """Their layers in a class of the user's own, which says what it wants."""

    labels, input_shape, task = ("a", "b", "c"), (3, 20, 24), "regression"


class Foreign(nn.Sequential):
    config = SimpleNamespace(id2label=NAMES, image_size=16)


def test_the_configuration_says_size_labels_and_task() -> None:
    network = resolve(ResNetForImageClassification(image_size=16))
    assert (network.task, network.classes, network.labels) == ("classification", 3, ("cat", "dog", "cow"))
    assert (network.input_shape, network.said) == ((3, 16, 16), "")
    segmenter = resolve(MobileNetV2ForSemanticSegmentation(image_size=(16, 24), num_channels=1))
    assert (segmenter.task, segmenter.classes, segmenter.labels) == ("segmentation", 3, ("cat", "dog", "cow"))
    assert segmenter.input_shape == (1, 16, 24)


def test_of_a_classifier_with_a_teacher_the_mean_of_its_heads_is_the_answer() -> None:
    network = resolve(LevitForImageClassificationWithTeacher(image_size=16))
    assert (network.task, network.labels) == ("classification", ("cat", "dog", "cow"))
    assert "logits is kept and cls_logits and distillation_logits left out" in network.said


@pytest.mark.parametrize(
    ("config", "said", "value"),
    [
        ({"id2label": {"1": "dog", "0": "cat", "2": "cow"}}, "labels", ("cat", "dog", "cow")),
        ({"id2label": {i: f"LABEL_{i}" for i in range(3)}}, "labels", None),
        ({"id2label": {0: "cat", 7: "dog"}}, "labels", None),
        ({"id2label": None}, "labels", None),
        ({"image_size": [32, 48]}, "input_shape", (3, 32, 48)),
        ({"image_size": 32, "num_channels": None}, "input_shape", (3, 32, 32)),
        ({"image_size": None}, "input_shape", None),
        ({"image_size": "224"}, "input_shape", None),
        ({"problem_type": "multi_label_classification"}, "task", "multi-label"),
        ({"problem_type": "single_label_classification"}, "task", "classification"),
    ],
)
def test_each_part_of_it(config: dict[str, Any], said: str, value: object) -> None:
    module = ResNetForImageClassification(**{**config, "num_channels": 3})
    module.config.num_channels = config.get("num_channels", 3)
    assert hugging_face.said(module).get(said) == value


def test_what_the_class_says_itself_counts() -> None:
    network = resolve(Elsewhere(image_size=16))
    assert (network.task, network.labels, network.input_shape) == ("regression", ("a", "b", "c"), (3, 20, 24))


def test_what_the_file_of_the_user_says_counts(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from test_hugging_face import ResNetForImageClassification\n"
        "input_shape, labels = (3, 20, 24), ('a', 'b', 'c')\n"
        "def net():\n    return ResNetForImageClassification(image_size=16)\n"
    )
    network = resolve(f"{tmp_path}/nets.py:net")
    assert (network.input_shape, network.labels) == ((3, 20, 24), ("a", "b", "c"))


def test_a_configuration_of_another_package_says_nothing() -> None:
    module = Foreign(nn.Conv2d(3, 3, 3))
    assert hugging_face.said(module) == {}
