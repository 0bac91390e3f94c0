"""Provider options: what can be written, what is refused with the nearest name, and one text for equal settings."""

from __future__ import annotations

import pytest

from runtimes.base import BadInput, Unavailable
from runtimes.execution import provider_options
from runtimes.execution.provider_options import parse
from runtimes.providers import cuda


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("cpu", "cpu"),
        ("cuda", "cuda"),
        ("cuda:", "cuda"),
        ("cuda:use_tf32=0", "cuda"),  # the default
        ("cuda:use_tf32=1", "cuda:use_tf32=1"),
        ("cuda:use_tf32=TRUE, prefer_nhwc=yes", "cuda:use_tf32=1,prefer_nhwc=1"),
        ("cuda:prefer_nhwc=1,use_tf32=1", "cuda:use_tf32=1,prefer_nhwc=1"),  # one order
        ("cuda:use_tf32=1,use_tf32=off", "cuda"),  # the last one counts
        ("cuda:cudnn_conv_algo_search=exhaustive", "cuda:cudnn_conv_algo_search=EXHAUSTIVE"),
        ("cuda:gpu_mem_limit=1073741824,device_id=1", "cuda:gpu_mem_limit=1073741824,device_id=1"),
    ],
)
def test_equal_settings_have_one_text(written: str, text: str) -> None:
    asked = parse(written)
    assert asked.text == text
    assert parse(asked.text) == asked


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("cudaa", "cudaa: unknown provider; did you mean cuda or cpu?"),
        ("cuda:use_tf23=1", "cuda: use_tf23: unknown option; did you mean use_tf32?"),
        ("cuda:use_tf32", "cuda: option 'use_tf32' has no value; write use_tf32=VALUE"),
        ("cuda:use_tf32=2", "cuda: option use_tf32 is '2'; write 0 or 1"),
        ("cuda:gpu_mem_limit=2GB", "cuda: option gpu_mem_limit is '2GB'; write a whole number"),
        ("cuda:gpu_mem_limit=-1", "write a whole number of 0 or more"),
        ("cuda:cudnn_conv_algo_search=DEFAULT", "is 'DEFAULT'; write HEURISTIC or EXHAUSTIVE"),
        ("cpu:use_tf32=1", "cpu: has no options, and use_tf32 is one; leave it out"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(written: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(written)
    assert message in str(caught.value)


def test_one_option_can_be_changed() -> None:
    assert parse("cuda:use_tf32=1").but(prefer_nhwc=True).text == "cuda:use_tf32=1,prefer_nhwc=1"


def test_require_refuses_what_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise Unavailable("cuda: no NVIDIA driver; use cpu")

    monkeypatch.setattr(cuda, "require", missing)
    assert provider_options.require("cpu").text == "cpu"
    with pytest.raises(Unavailable, match="no NVIDIA driver"):
        provider_options.require("cuda:use_tf32=1")
    with pytest.raises(BadInput, match="unknown option"):  # a typing mistake is worth more than a missing driver
        provider_options.require("cuda:tf=1")


def test_float16_asks_for_tensor_cores() -> None:
    assert parse("cuda:prefer_nhwc=1").for_half.text == "cuda:use_tf32=1,prefer_nhwc=1"
    assert parse("cuda:use_tf32=1").for_half == parse("cuda:use_tf32=1")
    assert parse("cpu").for_half.text == "cpu"
