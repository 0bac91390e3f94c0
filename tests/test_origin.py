"""The module path of a node, whichever exporter wrote it."""

from __future__ import annotations

import pytest
from onnx import helper

from exporters.graph import ABSORBED_KEY, MODULE_KEY, set_meta
from exporters.layerwise.origin import SCOPES_KEY, last_module, module_of, path_in_name


@pytest.mark.parametrize(
    ("name", "meta", "path"),
    [
        ("layer1.0.conv1/Conv", {MODULE_KEY: "layer1.0.conv1"}, "layer1.0.conv1"),
        ("node_conv2d", {SCOPES_KEY: "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']"}, "layer1.0.conv1"),
        ("/layer1/layer1.0/conv1/Conv", {}, "layer1.0.conv1"),
        ("/features/features.1/conv/conv.0/conv.0.0/Conv", {}, "features.1.conv.0.0"),
        ("/fc/Gemm", {}, "fc"),
        ("/Flatten", {}, ""),
        ("Conv_12", {}, ""),
        ("", {}, ""),
        ("", {SCOPES_KEY: "5"}, ""),
        ("", {SCOPES_KEY: "-" * 200_000 + "1"}, ""),
        ("", {SCOPES_KEY: "[" * 5000}, ""),
    ],
)
def test_module_of(name: str, meta: dict[str, str], path: str) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name)
    set_meta(node, meta)
    assert module_of(node) == path


def test_what_was_folded_in_last_made_the_result() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "c/Conv")
    set_meta(node, {MODULE_KEY: "c", ABSORBED_KEY: "bn/BatchNormalization\nscale/Mul"})
    assert (module_of(node), last_module(node)) == ("c", "scale")


def test_names_of_others_are_no_paths() -> None:
    assert path_in_name("model/conv2d/Conv2D") == ""
