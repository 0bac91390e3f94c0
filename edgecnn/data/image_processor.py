"""`preprocessor_config.json`, as Hugging Face's networks have it beside their weights, in the settings of this project.

    size, do_center_crop, crop_size, crop_pct, resample         size, resize, interpolation
    rescale_factor, rescale_offset, image_mean, image_std       mean and std of x / 255
    do_flip_channel_order                                       bgr

    x r - o - m        x / 255 - M
    -----------   =   -------------     with M = (m + o) / (255 r), S = s / (255 r)
         s                  S

Source: transformers, image_processing_utils.py and the processors of its vision models.
Test: tests/test_image_processor.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runtimes.base import BadInput
from runtimes.imaging.resampling import BICUBIC, BILINEAR, NEAREST

KINDS = ("image_processor_type", "feature_extractor_type")
SIGNS = (*KINDS, "image_mean", "rescale_factor", "do_normalize")
"""Keys of such a file, of which no other preprocessing file has one."""
KNOWN = (
    "Beit", "Bit", "CLIP", "ConvNext", "DPT", "DeiT", "EfficientNet", "MobileNetV1", "MobileNetV2", "MobileViT",
    "Segformer", "Siglip", "ViT",
)  # fmt: skip
"""Whose processor does what its file says and no more; ResNet and RegNet have ConvNeXt's."""
RESAMPLE = {0: NEAREST, 2: BILINEAR, 3: BICUBIC}
"""Pillow's numbers."""
LEVELS = 255
CROPPED_BELOW = 384
"""With `crop_pct` the centre is cut out below this side; from here on the picture is stretched (ConvNeXt)."""


def is_one(values: Mapping[str, Any]) -> bool:
    return any(name in values for name in SIGNS)


def settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a preprocessing file; raises `BadInput` for what pictures are not made like here."""
    kind = str(next((values[name] for name in KINDS if name in values), ""))
    if kind and not re.fullmatch(rf"({'|'.join(KNOWN)})(ImageProcessor(Fast|Pil)?|FeatureExtractor)", kind):
        raise BadInput(f"is of a {kind[:60]}, which is not known here; write mean, std and resize as training had them")
    try:
        return {**_fit(values), **_values(values), "interpolation": _interpolation(values)}
    except (TypeError, ValueError, KeyError, ZeroDivisionError, OverflowError) as error:
        raise BadInput(
            f"is no preprocessor_config.json that is understood ({error!r}); write mean, std, resize"
        ) from error


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    rescaled = values.get("do_rescale", True)
    scale = LEVELS * float(values.get("rescale_factor", 1 / LEVELS)) if rescaled else float(LEVELS)
    offset = 1.0 if rescaled and values.get("rescale_offset") else 0.0
    mean, std = [0.0], [1.0]
    if values.get("do_normalize", not any(name in values for name in KINDS)):
        mean, std = _numbers(values["image_mean"]), _numbers(values["image_std"])
    if values.get("include_top"):  # EfficientNet's are divided once more
        std = [s * s for s in std]
    found: dict[str, Any] = {"mean": [(m + offset) / scale for m in mean], "std": [s / scale for s in std]}
    return {**found, "bgr": True} if values.get("do_flip_channel_order") else found


def _fit(values: Mapping[str, Any]) -> dict[str, Any]:
    """`size` and `resize`: nothing where pictures are not resized, the shorter side and a crop, or stretched."""
    if not values.get("do_resize", True) or "size" not in values:
        return {}
    size = values["size"]
    cut = values.get("do_center_crop", "crop_size" in values)
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else size if cut else None
    if edge is None:
        stretched = _sides(size)
        if cut and _sides(values["crop_size"]) != stretched:
            raise BadInput("stretches pictures and cuts the centre out; here it is one of the two")
        return {"size": stretched, "resize": None}
    if values.get("crop_pct"):
        whole = edge >= CROPPED_BELOW
        return {"size": [edge, edge], "resize": None if whole else int(edge / float(values["crop_pct"]))}
    if not cut:
        raise BadInput("keeps the proportions of a picture and cuts nothing out; write mean and std, and how it is cut")
    return {"size": _sides(values["crop_size"]), "resize": edge}


def _sides(size: Any) -> list[int]:
    return [size["height"], size["width"]] if isinstance(size, Mapping) else [size, size]


def _numbers(value: Any) -> list[float]:
    return [float(v) for v in value] if isinstance(value, list | tuple) else [float(value)]


def _interpolation(values: Mapping[str, Any]) -> str:
    asked = values.get("resample", 2)
    if asked not in RESAMPLE:
        raise BadInput(f"resample {asked!r}; 0 (nearest), 2 (bilinear) and 3 (bicubic) are known")
    return RESAMPLE[asked]
