"""`edgecnn models`: the zoo as a table, without importing torch."""

from __future__ import annotations

from edgecnn.cli._click import command as register
from edgecnn.cli._result import Result
from edgecnn.words import amount, size


@register("models", section="Start here", example="edgecnn models --json")
def command() -> Result:
    """List the networks of the zoo."""
    from edgecnn import api

    rows = api.models()
    columns = ("name", "task", "input", ">classes", ">params", ">MACs", ">float32", "paper")
    cells = [
        (r.name, r.task, "x".join(map(str, r.input_shape)), r.num_classes, amount(r.params), amount(r.macs),
         size(r.size_bytes), r.paper)
        for r in rows
    ]  # fmt: skip
    return Result(
        {"models": [row.to_dict() for row in rows]},
        lambda page: page.table(columns, cells),
        f"{len(rows)} networks; a MAC is one multiply-add, counted for one image; --json has exact numbers.",
    )
