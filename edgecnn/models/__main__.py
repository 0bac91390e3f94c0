"""Write what is said of the zoo anew from the files in this folder.

    python -m edgecnn.models            edgecnn/models/index.json, and in a checkout the table in docs/zoo.md
    python -m edgecnn.models --table    prints that table

Test: tests/test_models.py.
"""

import sys

from edgecnn.networks import zoo
from runtimes.files import write_atomic

PAGE = zoo.INDEX.parents[2] / "docs" / "zoo.md"


def main(arguments: list[str]) -> int:
    if arguments == ["--table"]:
        sys.stdout.write(zoo.table_text(zoo.list_models()))
        return 0
    if arguments:
        sys.stderr.write(f"error: {' '.join(arguments)}: unknown; give --table or nothing\n")
        return 2
    write_atomic(zoo.INDEX, zoo.index_text().encode())
    if PAGE.is_file():
        zoo.read_index.cache_clear()
        page = zoo.with_table(PAGE.read_text("utf-8"), zoo.table_text(zoo.list_models()))
        write_atomic(PAGE, page.encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
