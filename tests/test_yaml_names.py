"""Names in a data.yaml: what the tools write is read, and what a full reader would read differently is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecnn.data.labels import read_labels
from edgecnn.data.yaml_names import names_of
from runtimes.base import BadInput


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [cat, dog]", ["cat", "dog"]),
        ("names: ['cat', \"hot dog\",]  # two\n", ["cat", "hot dog"]),
        ("names: [cat,\n  'a, b',  # with a comma\n  c#d\n]\nnc: 3", ["cat", "a, b", "c#d"]),
        ("path: ../x\nnc: 2\nnames:\n- cat\n- hot dog\n", ["cat", "hot dog"]),
        ("names:\n  - cat\n\n  # none\n  - 'it''s'  # own\ntrain: a\n", ["cat", "it's"]),
        ("names:\n  0: person\n  1: traffic light\ndownload: |\n  import x\n", ["person", "traffic light"]),
        ("names: {1: b, 0: a}", ["a", "b"]),
        ('names: ["\\u00e9", t-shirt, "[x]", 12]', ["é", "t-shirt", "[x]", "12"]),
        ("roboflow:\n  names: none\nnames: [a]\n", ["a"]),
    ],
)
def test_what_the_tools_write(text: str, names: list[str]) -> None:
    assert names_of(text) == names


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("nc: 3", "no list called names"),
        ("names: [a]\nnames: [b]", "two lists called names"),
        ("names: cat", "names is no list"),
        ("names: [a, b", r"names has no closing \]"),
        ("names: [a, [b]]", r"`\[b` is no name"),
        ("names: [&a cat, *a]", "`&a cat, \\*a` is no name"),
        ("names: [!!str a]", "is no name"),
        ("names: [a b: c]", "`a b: c` is no name"),
        ("names:\n  - a: b\n", "`a: b` is no name"),
        ("names:\n  - |\n    a\n", "line `- |` is no name"),
        ("names:\n  - a\n  1: b\n", "names with and without a number"),
        ("names:\n  0: a\n  2: b\n", "names not numbered 0, 1, ... each once"),
        ("names: {a, b}", "is no name"),
        ("names: [0: a]", "is no name"),
        ("nc: 3\nnames: [a, b]", "nc is 3, but there are 2 names"),
        ('names: ["\\x"]', "escape"),
        ("names:\n- a" + " " * 30_000 + 'x"[', "a thousand spaces in a row"),
        ("names: [a" + "\n" * 30_000 + '"[', "a thousand spaces in a row"),
    ],
)
def test_what_is_refused(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause.replace("|", r"\|")):
        names_of(text)


def test_it_is_a_file_of_labels(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("names: [cat, dog]\n")
    assert read_labels(path, 2) == ("cat", "dog")
    path.write_text("names: ['']\n")
    with pytest.raises(BadInput, match=r"data.yaml: name 0 is ''"):
        read_labels(path)
    path.write_text("names: []\n")
    with pytest.raises(BadInput, match=r"data.yaml: holds 0 names"):
        read_labels(path)
