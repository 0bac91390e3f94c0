"""A provider as people write it, `cuda:use_tf32=1,prefer_nhwc=1`: its plug-in, and its options as a typed record.

    "cuda:use_tf32=1" --parse--> name "cuda", {"use_tf32": "1"} --typed--> cuda.Options(use_tf32=True) --> ONNX Runtime

Every place that takes a provider's name takes this form, and results name a provider in it: `cuda` alone stands for the
defaults, and an option that differs from its default is always spelled out. Test: tests/test_provider_options.py.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import runtimes.providers
from runtimes import plugins
from runtimes.base import BadInput

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclasses.dataclass(frozen=True)
class Asked:
    """A provider with its options. `text` says it again in one word, with only what is not the default."""

    name: str
    plugin: ModuleType
    options: Any

    @property
    def text(self) -> str:
        """`cuda`, or `cuda:use_tf32=1`: equal settings give equal texts."""
        chosen = [
            f"{f.name}={_spelled(getattr(self.options, f.name))}"
            for f in dataclasses.fields(self.options)
            if getattr(self.options, f.name) != f.default
        ]
        return f"{self.name}:{','.join(chosen)}" if chosen else self.name

    def but(self, **changed: Any) -> Asked:
        """The same provider with some options changed."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, **changed))

    @property
    def for_half(self) -> Asked:
        """The same provider as float16 wants it: ONNX Runtime keeps it off tensor cores too where TF32 is off."""
        return self.but(use_tf32=True) if hasattr(self.options, "use_tf32") else self


def parse(text: str) -> Asked:
    """The provider `NAME` or `NAME:OPTION=VALUE,...`; raises `BadInput` with the nearest name for an unknown one.

    >>> parse("cuda:use_tf32=on,prefer_nhwc=0").text
    'cuda:use_tf32=1'
    """
    name, _, rest = text.partition(":")
    plugin = plugins.load(runtimes.providers, name, "provider")
    given = dict(_pair(part, name) for part in rest.split(",") if part)
    return Asked(name, plugin, typed(plugin.Options, given, name))


def several(text: str) -> tuple[str, ...]:
    """The providers of a list; a part with `=` is one more option of the provider before it.

    >>> several("cpu,cuda:use_tf32=1,prefer_nhwc=1,cuda")
    ('cpu', 'cuda:use_tf32=1,prefer_nhwc=1', 'cuda')
    """
    found: list[str] = []
    for part in text.split(","):
        if found and "=" in part and ":" not in part and ":" in found[-1]:
            found[-1] += f",{part}"
        else:
            found.append(part.strip())
    return tuple(found)


def require(provider: str) -> Asked:
    """`provider`, which can run here; raises `Unavailable` with the first thing missing, in less than a second, and
    `BadInput` for options that cannot go together.
    """
    asked = parse(provider)
    asked.plugin.options(asked.options)
    asked.plugin.require()
    return asked


def typed(record: type, given: Mapping[str, str], provider: str) -> Any:
    """`record` with the fields `given` as text; raises `BadInput` for unknown names and values that do not fit."""
    kinds = typing.get_type_hints(record)
    for name in given:
        if not kinds:
            raise BadInput(f"{provider}: has no options, and {name} is one; leave it out")
        if name not in kinds:
            raise BadInput(f"{provider}: {plugins.unknown(name, kinds, 'option')}")
    return record(**{name: _value(name, text, kinds[name], provider) for name, text in given.items()})


def _pair(part: str, provider: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if not equals:
        raise BadInput(f"{provider}: option {part!r} has no value; write {name}=VALUE")
    return name.strip(), value.strip()


def _value(name: str, text: str, kind: Any, provider: str) -> Any:
    if kind is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise BadInput(f"{provider}: option {name} is {text!r}; write 0 or 1")
    if kind is int:
        if text.isdecimal():
            return int(text)
        raise BadInput(f"{provider}: option {name} is {text!r}; write a whole number of 0 or more")
    choices = typing.get_args(kind)
    if text.upper() in choices:
        return text.upper()
    raise BadInput(f"{provider}: option {name} is {text!r}; write {' or '.join(choices)}")


def _spelled(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
