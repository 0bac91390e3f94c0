"""One of each task learns from drawn shapes, own masks and own boxes are learned, and what does not fit is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.evaluation.evaluate import evaluate
from edgecnn.networks import zoo
from edgecnn.networks.sources import resolve
from edgecnn.networks.weights import load_weights
from edgecnn.tasks import detection
from edgecnn.training.train import train
from runtimes.base import BadInput

FIXTURES = Path(__file__).parent / "fixtures"

NETS = """
import torch
from torch import nn
from edgecnn.models.mobilenet_v1 import MobileNetV1

class Depthwise(MobileNetV1):
    input_shape = (3, 32, 32)

    def __init__(self, num_classes=3):
        super().__init__(0.25, num_classes, layers=((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)))

class Segmenter(nn.Module):
    input_shape, task = (3, 32, 32), "segmentation"

    def __init__(self, num_classes=4):
        super().__init__()
        def block(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
        self.down = nn.Sequential(block(3, 12), nn.MaxPool2d(2), block(12, 24), block(24, 24))
        self.up = nn.Sequential(nn.ConvTranspose2d(24, 12, 2, 2), nn.ReLU(), nn.Conv2d(12, num_classes, 3, padding=1))

    def forward(self, x):
        return self.up(self.down(x))

class Untaught(nn.Module):
    input_shape, task = (3, 32, 32), "detection"

    def __init__(self, num_classes=3):
        super().__init__()

    def forward(self, x):
        none = torch.zeros(0, dtype=torch.int64)
        return torch.zeros(0, 4), torch.zeros(0), none, none

class Liar(nn.Module):
    input_shape, task = (3, 32, 32), "detection"

    def forward(self, x):
        return x
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path / "nets.py"


@pytest.mark.slow
def test_a_classifier_with_depthwise_convolutions(nets: Path, tmp_path: Path) -> None:
    """In 12 s on one core. Three classes alike: a third is chance.

    A MobileNet with five of its thirteen blocks: the whole one stays near chance for hundreds of steps, and for how
    many, the last bits of a sum decide. What that one learns in 50 epochs is in the fixtures.
    """
    report = train(f"{nets}:Depthwise", "shapes", tmp_path / "w.safetensors", epochs=16, batch=32)
    assert (report.task, report.metric, report.classes) == ("classification", "top-1", 3)
    assert report.test_score >= 0.85


def test_a_segmenter_of_ones_own(nets: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    report = train(f"{nets}:Segmenter", "shapes:160", path, epochs=10)
    assert (report.task, report.metric, report.classes) == ("segmentation", "mIoU", 4)
    assert report.test_score >= 0.22  # ground alone gives 0.21
    _, about = load_weights(path)
    assert about is not None
    assert (about.task, about.metric, about.labels) == (
        "segmentation", "mIoU", ("background", "circle", "square", "triangle")
    )  # fmt: skip
    assert about.test_score == report.test_score
    network = resolve(f"{nets}:Segmenter", path)
    assert (network.task, network.labels) == ("segmentation", about.labels)


@pytest.mark.slow
def test_a_detector(tmp_path: Path) -> None:
    """In 10 s on one core; 600 shapes give 0.64."""
    path = tmp_path / "w.safetensors"
    report = train("ssd_tiny", "shapes:400", path, epochs=8)
    assert (report.task, report.metric, report.classes) == ("detection", "mAP@[.5:.95]", 3)
    assert report.test_score >= 0.4
    assert "reaches mAP@[.5:.95] " in report.verdict
    assert resolve("ssd_tiny", path).labels == ("circle", "square", "triangle")


@pytest.mark.parametrize(
    ("name", "floor", "limit_bytes"),
    [("mobilenet_v1_025", 0.97, 460_000), ("ssd_tiny", 0.85, 320_000), ("unet_w8", 0.98, 1_000_000)],
)
def test_the_committed_networks_that_know_shapes(name: str, floor: float, limit_bytes: int) -> None:
    """What the file says of itself is measured again, on images that it was not trained on."""
    path = FIXTURES / f"{name}_shapes.safetensors"
    assert path.stat().st_size < limit_bytes
    _, about = load_weights(path)
    assert about is not None
    report = evaluate(name, data="shapes", weights=path)
    assert (report.task, report.metric, report.images) == (about.task, about.metric, 300)
    # Another CPU sums in another order: a score of 300 images may move by one of them.
    assert report.models[0][1].value == pytest.approx(about.test_score, abs=1 / 300)
    assert about.test_score >= floor


def test_the_loss_of_each_task_falls(nets: Path, tmp_path: Path) -> None:
    for name in ("ssd_tiny", f"{nets}:Segmenter"):
        losses = train(name, "shapes:80", tmp_path / "w.safetensors", epochs=3, force=True).losses
        assert losses[-1] < losses[0]


def test_mirrored_where_the_data_allows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    from edgecnn.tasks import classification

    real = classification.augment
    monkeypatch.setattr(classification, "augment", lambda i, a, o, flip: seen.append(flip) or real(i, a, o, flip))
    for data, flip, wanted in (("digits", None, False), ("shapes:60", None, True), ("shapes:60", False, False)):
        seen.clear()
        train("lenet5", data, tmp_path / "w.safetensors", epochs=1, flip=flip, force=True)
        assert set(seen) == {wanted}
    seen.clear()
    train("lenet5", "digits", tmp_path / "w.safetensors", epochs=1, flip=True, force=True)
    assert set(seen) == {True}


def test_without_augment_the_network_learns_the_pictures_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (20, 32, 32), np.uint8)
    own = {hash(image.tobytes()) for image in pictures.astype(np.float32) / 255}
    seen: list[bool] = []
    from edgecnn.tasks import classification

    real = classification.loss

    def loss(module: nn.Module, images: torch.Tensor, *rest: Any) -> Any:
        shown = np.ascontiguousarray(images.numpy()[:, 0])
        seen.extend(hash(image.tobytes()) in own for image in shown)
        return real(module, images, *rest)

    monkeypatch.setattr(classification, "loss", loss)
    data = pictures, np.arange(20) % 2
    for augment in (True, False):
        seen.clear()
        train(
            "lenet5",
            data,
            tmp_path / "w.safetensors",
            epochs=2,
            batch=4,
            preprocess="unit",
            force=True,
            augment=augment,
        )
        assert all(seen) == (not augment)
        assert len(seen) >= 24
    with pytest.raises(BadInput, match="--flip mirrors images, --no-augment leaves them as they are"):
        train("lenet5", data, tmp_path / "w.safetensors", flip=True, augment=False, force=True)


def test_early_stopping_holds_a_part_of_the_training_images_back(tmp_path: Path) -> None:
    report = train("lenet5", "digits", tmp_path / "w.safetensors", epochs=2, patience=1)
    assert report.train_images + report.validation_images == 1438
    assert report.validation_images == pytest.approx(144, abs=5)
    assert report.test_images == 359
    assert len(report.validation) == len(report.losses) == report.epochs


# --------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("source", "data", "match"),
    [
        ("ssd_tiny", "digits", r"digits: has no classes to learn for detection; give a folder as COCO, PASCAL VOC"),
        ("Segmenter", "digits", "digits: has no classes to learn for segmentation; give images/ and masks/"),
        (
            "Untaught",
            "shapes:30",
            r"Untaught: brings no loss\(raw, targets\) to be trained with; of the zoo's detectors ssd300_vgg16,",
        ),
        ("Liar", "shapes:30", "Liar: answers no boxes, scores, labels and images; it is no detector"),
    ],
)
def test_networks_and_data_that_do_not_fit(source: str, data: str, match: str, nets: Path, tmp_path: Path) -> None:
    name = source if source == "ssd_tiny" else f"{nets}:{source}"
    with pytest.raises(BadInput, match=match):
        train(name, data, tmp_path / "w.safetensors")
    assert list(tmp_path.glob("w.*")) == []


def test_the_detectors_of_the_zoo_that_can_be_trained_are_those_that_are_named() -> None:
    detectors = [row.name for row in zoo.list_models() if row.task == "detection"]
    with torch.device("meta"):
        trainable = [name for name in detectors if hasattr(zoo.find(name).build(num_classes=2), "loss")]
    assert sorted(trainable) == sorted(detection.TRAINABLE)


def test_a_detector_of_the_zoo_without_a_loss_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^yolov3_tiny: brings no loss"):
        train("yolov3_tiny", "no such data", tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"batch": 0}, "batch 0, patience None; at least 1"),
        ({"patience": 0}, "batch 16, patience 0; at least 1"),
        ({"momentum": 1.0}, "momentum 1.0; 0 to below 1"),
        ({"weight_decay": -0.1}, "weight decay -0.1; 0 to below 1"),
        ({"label_smoothing": float("nan")}, "smoothing nan; 0 to below 1"),
    ],
)
def test_numbers_that_no_training_can_have(more: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=match):
        train("lenet5", "digits", tmp_path / "w.safetensors", **more)


# ---------------------------------------------------------------------------------------------- weights that do not fit
def test_a_checkpoint_of_another_network_names_the_first_three(nets: Path, tmp_path: Path) -> None:
    train("ssd_tiny", "shapes:30", tmp_path / "w.safetensors", epochs=1)
    with pytest.raises(
        BadInput, match=r"does not fit the network: .* is missing, .* is missing, .* is missing and \d+ more"
    ):
        resolve(f"{nets}:Segmenter", tmp_path / "w.safetensors", num_classes=4)


def test_a_pickled_detector_is_refused(tmp_path: Path) -> None:
    torch.save(resolve("ssd_tiny").module, tmp_path / "net.pt")
    with pytest.raises(
        BadInput, match=r"net.pt: holds more than tensors .*, which could run code; save the weights alone"
    ):
        resolve("ssd_tiny", tmp_path / "net.pt")
