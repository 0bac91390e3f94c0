"""Every file in runtimes/providers keeps the contract of the folder, whether its provider can run here or not."""

import dataclasses
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest
from onnx import parser

import runtimes.providers
from runtimes import plugins
from runtimes.base import Unavailable
from runtimes.session import open_session

NAMES = plugins.names(runtimes.providers)
MODEL = parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }'
).SerializeToString()


@pytest.fixture(params=NAMES)
def plugin(request: pytest.FixtureRequest):
    return plugins.load(runtimes.providers, request.param, "provider")


def test_it_has_what_the_contract_asks(plugin) -> None:
    assert plugin.__doc__
    assert plugin.ORT_NAME in ort.get_all_providers()
    assert dataclasses.is_dataclass(plugin.Options)
    options = plugin.options(plugin.Options())
    assert all(isinstance(text, str) for item in options.items() for text in item)
    plugin.configure(ort.SessionOptions())


def test_it_runs_here_or_says_in_one_line_what_is_missing(plugin) -> None:
    try:
        plugin.require()
    except Unavailable as error:
        text = str(error)
        assert text.startswith(plugin.__name__.rsplit(".", 1)[1] + ": ")
        assert len(text) < 200
        assert ";" in text, "what is wrong; what to do"


@pytest.mark.parametrize("name", NAMES)
def test_a_session_runs_where_it_was_asked_to_or_not_at_all(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        session = open_session(MODEL, name, threads=1)
    except Unavailable:
        assert name != "cpu"
    else:
        assert session.provider == name
        assert session.raw.get_providers()[0] == plugins.load(runtimes.providers, name, "provider").ORT_NAME
        assert session({"x": np.array([[-1, 0, 1, 2]], np.float32)})["y"].tolist() == [[0, 0, 1, 2]]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NAMES)
def test_importing_a_provider_does_not_load_onnxruntime(name: str) -> None:
    code = f"import sys, runtimes.providers.{name}; print('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
