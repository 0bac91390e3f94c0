"""`edgecnn doctor`: what this machine has, and what is in the way."""

from __future__ import annotations

from edgecnn.cli import _tables as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._result import Result


@register("doctor", section="Start here", example="edgecnn doctor --json")
def command() -> Result:
    """Show versions, providers and processor instructions, and name what is missing or in the way."""
    from edgecnn import api

    found = api.doctor()
    return Result(found.to_dict(), lambda page: tables.examined(page, found), found.verdict, found.failure)
