"""The names of the classes in a data.yaml, as the tools around YOLO write it; nothing else of YAML is known.

    names: [cat, 'hot dog']        names:             names:             names: {0: cat, 1: hot dog}
                                     - cat              0: cat
                                     - hot dog          1: hot dog
    nc: 2                          optional: how many

Words in quotes or without, comments; anchors, tags and folded text are refused.
Source: YAML 1.2.2, chapters 7.3 to 8.2. Test: tests/test_yaml_names.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

KEY, COUNT = re.compile(r"names[ ]*:(?:[ ]+(.*))?"), re.compile(r"nc[ ]*:[ ]+(\d{1,6})[ ]*(?:#.*)?")
QUOTED = r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\""
WORD = rf"(?:{QUOTED}|[^\s'\"\[\]{{}},#&*!|>%@`?-](?:[^,\[\]{{}}#]|(?<=\S)#)*|-(?!\s)[^,\[\]{{}}#]+)"
"""In brackets; a comment begins with a # behind a space."""
FLOW = re.compile(rf"\s*(?:(\d+)\s*:\s+)?({WORD})\s*(,|$)")
LINE = re.compile(rf"[ ]*(?:-[ ]+|(\d+)[ ]*:[ ]+)({QUOTED}|(?!-\s)[^\s'\"\[\]{{}}#&*!|>%@`?].*?)[ ]*(?:(?<=\s)#.*)?")
GAP = re.compile(r"\s{1000}")
"""Which the others would walk again and again."""
BLANK = re.compile(r"\s*(#.*)?")


def names_of(text: str) -> list[str]:
    """Raises `ValueError` with the cause where the names cannot be told.

    >>> names_of("nc: 2\\nnames: ['cat', hot dog]  # two")
    ['cat', 'hot dog']
    """
    if GAP.search(text):
        raise ValueError("a thousand spaces in a row")
    lines = text.splitlines()
    places = [i for i, line in enumerate(lines) if KEY.fullmatch(line)]
    if len(places) != 1:
        raise ValueError(f"{'two lists' if places else 'no list'} called names")
    first = KEY.fullmatch(lines[places[0]])
    rest, below = (first[1] or "" if first else ""), lines[places[0] + 1 :]
    found = list(_block(below)) if BLANK.fullmatch(rest) else list(_flow("\n".join([rest, *below])))
    names = _in_order(found)
    counts = [int(match[1]) for line in lines if (match := COUNT.fullmatch(line))]
    if counts and counts[0] != len(names):
        raise ValueError(f"nc is {counts[0]}, but there are {len(names)} names")
    return names


def _in_order(found: Sequence[tuple[str | None, str]]) -> list[str]:
    """The words by their numbers, which must be 0 to n - 1, or all without."""
    if any(number is None for number, _ in found):
        if any(number is not None for number, _ in found):
            raise ValueError("names with and without a number")
        return [_word(text) for _, text in found]
    numbered = {int(str(number)): _word(text) for number, text in found}
    if set(numbered) != set(range(len(found))):
        raise ValueError("names not numbered 0, 1, ... each once")
    return [numbered[i] for i in range(len(found))]


def _block(lines: Sequence[str]) -> Iterator[tuple[str | None, str]]:
    """(number, word) of each line, up to the next key."""
    for line in lines:
        if BLANK.fullmatch(line):
            continue
        match = LINE.fullmatch(line)
        if match is None and line[:1] not in (" ", "\t", "-"):
            return
        if match is None:
            raise ValueError(f"line `{line.strip()[:30]}` is no name")
        yield match[1], match[2]


def _flow(text: str) -> Iterator[tuple[str | None, str]]:
    """(number, word) of each entry in brackets or braces, which may go over several lines."""
    opened, body = text[0], _within(text[1:], {"[": "]", "{": "}"}.get(text[0], ""))
    place = 0
    while body[place:].strip():
        match = FLOW.match(body, place)
        if match is None or (match[1] is None) is (opened == "{"):
            raise ValueError(f"`{body[place:].strip()[:30]}` is no name")
        yield match[1], match[2]
        place = match.end()


def _within(text: str, closing: str) -> str:
    """What stands before the bracket `closing`, comments left out."""
    if not closing:
        raise ValueError("names is no list")
    body = ""
    for match in re.finditer(rf"{QUOTED}|(?<=\s)#[^\n]*|.", text, re.DOTALL):
        if match[0] == closing:
            return body
        body += "" if match[0].startswith("#") and len(match[0]) > 1 else match[0]
    raise ValueError(f"names has no closing {closing}")


def _word(text: str) -> str:
    """A word without its quotes."""
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    if text[0] == '"':
        return str(json.loads(text))
    if re.search(r":(\s|$)", text):
        raise ValueError(f"`{text[:30]}` is no name")
    return text.strip()
