"""YAML with line numbers: every value knows where it stands, and every fault is collected.

The file is composed into nodes and never constructed, so no tag can build an object; anchors are
refused, so no alias can multiply its content.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 64 * 1024  # every dial with a long comment makes ten thousand
TAG = "tag:yaml.org,2002:"
# What stands in a file without a tag is one of these; dates and merge keys are read as text.
TAGS = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")
# What ruamel says of the commonest slips, in the words of somebody who wants to mend them.
SYNTAX = {
    "'\\t'": "YAML indents with spaces, but got a tab; replace tabs by spaces",
    "mapping values are not allowed": "a line holds one `key: value`, but got a second colon or "
    "deeper indentation; align the keys or quote the text",
    "another document": "the file must hold one document, but got a second `---`; remove it",
    "unexpected end of stream": "a quotation must end, but got the end of the file; close it",
    "or '}'": "a `{` must be closed by `}`, with commas between its entries, but it is not",
    "or ']'": "a `[` must be closed by `]`, with commas between its values, but it is not",
    "undefined alias": "anchors and aliases are not part of the format; write the value out",
}


@dataclass(frozen=True, order=True)
class Fault:
    """What is wrong on a line (counted from 1; 0 is the command line) and how to mend it."""

    line: int
    message: str


@dataclass(frozen=True)
class Located:
    """A value and its line: a scalar, a tuple of located values, or a dict of them by name."""

    value: Any
    line: int


def read_located(content: bytes, faults: list[Fault]) -> Located | None:
    """Read one YAML 1.2 document; None if it cannot be understood, with faults that say why.

    Duplicate keys are faults too, but the first one counts and the rest is read.
    """
    if len(content) > MAX_BYTES:
        rule = f"a space file must have at most {MAX_BYTES // 1024} KiB, but this has more"
        faults.append(Fault(1, f"{rule}; is it another file?"))
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        rule = f"the file must be text in UTF-8, but got byte 0x{content[error.start]:02x}"
        faults.append(Fault(line, f"{rule}; save it as UTF-8"))
        return None
    try:
        node = YAML(pure=True).compose(text)
    except MarkedYAMLError as error:
        faults.append(_syntax_fault(error))
        return None
    except YAMLError:  # the reader met a character that no text holds
        bad = next((at for at, c in enumerate(text) if c < " " and c not in "\t\r\n"), 0)
        rule = f"the file must be YAML, but got the character {text[bad]!r}"
        faults.append(Fault(text[:bad].count("\n") + 1, f"{rule}; is it another file?"))
        return None
    except RecursionError:
        faults.append(Fault(1, "brackets must not be nested this deeply; is it another file?"))
        return None
    if node is None:
        faults.append(Fault(1, "the file must hold a space, but it is empty; begin: version: 1"))
        return None
    refused: list[Fault] = []
    located = _located(node, faults, refused)
    faults += refused
    return None if refused else located


def read_entries(
    located: Located, what: str, known: Collection[str], faults: list[Fault]
) -> dict[str, Located]:
    """The entries of a map under known keys; anything else becomes a fault."""
    if not isinstance(located.value, dict):
        rule = f"{what} must be a map of {', '.join(known)}" if known else f"{what} has no options"
        faults.append(Fault(located.line, f"{rule}, but got {shown(located)}"))
        return {}
    for key, value in located.value.items():
        if key not in known:
            cure = did_you_mean(key, known) or f"; it has {', '.join(known) or 'no options'}"
            faults.append(Fault(value.line, f"{what} has no {key!r}{cure}"))
    return {key: value for key, value in located.value.items() if key in known}


def plain_scalar(text: str) -> Any:
    """One value as a space file would read it: `1e-4` is a number, `true` a switch, `hani` text."""
    try:
        node = YAML(pure=True).compose(text)
    except (YAMLError, RecursionError):
        return text
    if node is None:
        return None
    return _scalar(node) if isinstance(node, ScalarNode) else text


def bare(located: Located) -> Any:
    """A scalar as itself; a list or map, which no dial holds, as it is, for the message."""
    return located if isinstance(located.value, dict | tuple) else located.value


def shown(value: Any) -> str:
    """A value as the file writes it, cut to half a line."""
    text = _written(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def did_you_mean(word: Any, known: Iterable[Any]) -> str:
    """`; did you mean 'relu'?`, or nothing where no known word is near."""
    words = [candidate for candidate in known if isinstance(candidate, str)]
    near = difflib.get_close_matches(str(word).lower(), words, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _written(value: Any) -> str:
    match value:
        case Located():
            return _written(value.value)
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Mapping():
            return "{" + ", ".join(f"{name}: {_written(v)}" for name, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_written, value)) + "]"
    return repr(value)


def _syntax_fault(error: MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    # What was never closed is told where it was opened, not at the end of the file.
    unclosed = error.context_mark if "stream" in str(error.problem) else None
    line = (unclosed or mark).line + 1 if mark else 1
    for sign, message in SYNTAX.items():
        if sign in str(error.problem):
            return Fault(line, message)
    return Fault(line, f"the file must be YAML, but {error.problem}")


def _located(node: Node, faults: list[Fault], refused: list[Fault]) -> Located:
    line = node.start_mark.line + 1
    tag = str(node.tag).removeprefix(TAG)
    if node.anchor:
        rule = f"anchors and aliases are not part of the format, but got &{node.anchor}"
        refused.append(Fault(line, f"{rule}; write the value out where it is needed"))
        return Located(None, line)
    if tag not in TAGS:
        rule = f"tags are not part of the format, but got {str(node.tag).replace(TAG, '!!')}"
        refused.append(Fault(line, f"{rule}; remove it"))
        return Located(None, line)
    if isinstance(node, SequenceNode):
        items = (_located(item, faults, refused) for item in node.value)
        return Located(tuple(items), line)
    if isinstance(node, MappingNode):
        return Located(_entries(node, faults, refused), line)
    return Located(_scalar(node) if isinstance(node, ScalarNode) else None, line)


def _entries(node: MappingNode, faults: list[Fault], refused: list[Fault]) -> dict[str, Located]:
    entries: dict[str, Located] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, ScalarNode):
            refused.append(Fault(line, "a key must be a name, but got a list or a map"))
        elif key.value in entries:
            rule = f"{key.value!r} must stand once, but stands on line {entries[key.value].line}"
            faults.append(Fault(line, f"{rule} already; remove one of the two"))
        else:
            # A value that begins below its key is told where its key stands.
            entries[key.value] = Located(_located(value, faults, refused).value, line)
    return entries


def _scalar(node: ScalarNode) -> Any:
    text: str = node.value
    kind = str(node.tag).removeprefix(TAG)
    try:
        if kind == "int":
            return int(text) if text.lstrip("+-").isdigit() else int(text, 0)
        if kind == "float":
            return float(
                text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan")
            )
    except ValueError:  # more digits than Python reads
        return text
    if kind == "bool":
        return text.lower() in ("true", "yes", "on")
    return None if kind == "null" else text
