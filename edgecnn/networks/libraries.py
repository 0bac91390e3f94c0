"""Networks of installed libraries, `torchvision:NAME` and `timm:NAME`: their definitions, never their weights.

Both are optional. A library that is missing is exit 4 with its install line; one that is there but does not load (a
torchvision built for another torch stops at "operator torchvision::nms does not exist") says why.
Preprocessing is what the library itself prescribes for the network. Test: tests/test_sources.py.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn

from edgecnn.networks.callables import quiet
from edgecnn.networks.spec import IMAGENET, Blueprint
from runtimes import plugins
from runtimes.base import BadInput, Unavailable
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.resampling import BILINEAR, FILTERS

DEFAULT_CFG: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "crop_pct": 0.875,
    "mean": IMAGENET.mean,
    "std": IMAGENET.std,
}
"""For a network of timm's that has no configuration of its own."""
WEIGHTS = {"weights", "weights_backbone"}
"""Arguments of torchvision's builders; its detectors and segmenters fetch a backbone's where nothing is said."""


def _library(name: str) -> ModuleType:
    """An optional library; `Unavailable` says how to install it, or why the installed one does not load."""
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        library, missing = name.partition(".")[0], (error.name or name).partition(".")[0]
        what = "is not installed" if missing == library else f"needs {missing}, which is not installed"
        raise Unavailable(f"{library}: {what}; run `pip install {missing}`") from error
    except Exception as error:
        library, cause = name.partition(".")[0], str(error).partition("\n")[0][:100]
        advice = "install the build for this torch"
        raise Unavailable(f"{library}: does not load beside torch {torch.__version__} ({cause}); {advice}") from error


def torchvision(name: str) -> Blueprint:
    """`torchvision.models.get_model(name)`, with the preprocessing of its default weights."""
    models = _library("torchvision.models")
    known = [n for n in models.list_models() if "/" not in n]
    if name not in known:
        raise BadInput(f"torchvision:{plugins.unknown(name, known, 'network')}")
    default = models.get_model_weights(name).DEFAULT
    transforms = default.transforms()
    preprocess = IMAGENET
    if hasattr(transforms, "resize_size"):
        resize = int(transforms.resize_size[0])
        size = int(getattr(transforms, "crop_size", [resize])[0])
        preprocess = Preprocess(
            (size, size), 3, max(size, resize), tuple(transforms.mean), tuple(transforms.std),
            interpolation=_filter(getattr(transforms, "interpolation", None)),
        )  # fmt: skip
    nothing = dict.fromkeys(WEIGHTS & set(inspect.signature(models.get_model_builder(name)).parameters))
    return Blueprint(
        name,
        lambda **kwargs: _quietly(models.get_model, name, **nothing, **kwargs),
        len(default.meta.get("categories", ())) or None,
        (3, *preprocess.size),
        preprocess,
    )


def timm(name: str) -> Blueprint:
    """`timm.create_model(name)`, with the preprocessing of its pretrained configuration."""
    library = _library("timm")
    known = library.list_models()
    if name.partition(".")[0] not in known:
        raise BadInput(f"timm:{plugins.unknown(name, known, 'network')}")
    found = library.get_pretrained_cfg(name)
    cfg = found.to_dict() if found is not None else DEFAULT_CFG
    preprocess = pixels_of(cfg)
    return Blueprint(
        name,
        lambda **kwargs: _quietly(library.create_model, name, pretrained=False, **kwargs),
        int(cfg.get("num_classes") or 1000),
        preprocess.shape,
        preprocess,
    )


def pixels_of(cfg: Mapping[str, Any]) -> Preprocess:
    """What a configuration of timm's prescribes; raises `BadInput`, KeyError, TypeError or ValueError for another."""
    channels, height, width = cfg["input_size"]
    share = cfg.get("crop_pct") or 1.0
    squashed = cfg.get("crop_mode") == "squash" and share == 1.0
    resize = None if squashed else max(height, width, int(height / share))
    return Preprocess(
        (height, width), channels, resize, tuple(cfg["mean"]), tuple(cfg["std"]),
        interpolation=_filter(cfg.get("interpolation")),
    )  # fmt: skip


def _filter(said: object) -> str:
    """The interpolation that a library says, by name or as an enumeration; bilinear where it is none of ours."""
    name = str(getattr(said, "value", said))
    return name if name in FILTERS else BILINEAR


def _quietly(build: Callable[..., nn.Module], name: str, **kwargs: Any) -> nn.Module:
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            return build(name, **kwargs)
    except Exception as error:
        cause = str(error).partition("\n")[0][:140]
        raise BadInput(f"{name}: its library cannot build it ({cause}); choose another network") from error
