from typing import Any

import pytest

from siamtune.search.located import Fault, Located, plain_scalar, read_located, shown


def plain(located: Located) -> Any:
    """The values alone."""
    match located.value:
        case dict() as entries:
            return {name: plain(entry) for name, entry in entries.items()}
        case tuple() as items:
            return [plain(item) for item in items]
    return located.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),  # YAML 1.1 reads text here
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("+3", 3),
        ("010", 10),
        ("0x10", 16),
        ("true", True),
        ("False", False),
        ("no", "no"),  # YAML 1.1 reads a switch here
        ("null", None),
        ("", None),
        ("~", None),
        ("'1'", "1"),
        ("lcn-", "lcn-"),
        ("2001-01-01", "2001-01-01"),
        ("9" * 5000, "9" * 5000),  # more digits than Python turns into a number
    ],
)
def test_scalars_are_read_as_yaml_1_2(text: str, value: Any) -> None:
    read = plain_scalar(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["[1, 2", "{a: 1}", "a: 1", "@", "\x00"])
def test_what_is_no_scalar_stays_text(text: str) -> None:
    assert plain_scalar(text) == text


def test_every_value_knows_its_line() -> None:
    faults: list[Fault] = []
    text = b"a: 1\nb:\n  - 2\n  - c: 3\n    d:\n      - 4\n"
    root = read_located(text, faults)
    assert root is not None
    assert faults == []
    assert plain(root) == {"a": 1, "b": [2, {"c": 3, "d": [4]}]}
    b = root.value["b"]
    assert b.line == 2  # the line of the key, not of the first value below it
    assert [item.line for item in b.value] == [3, 4]
    assert b.value[1].value["d"].line == 5
    assert b.value[1].value["d"].value[0].line == 6


def test_a_byte_order_mark_is_no_fault() -> None:
    faults: list[Fault] = []
    root = read_located("a: 1".encode("utf-8-sig"), faults)
    assert root is not None
    assert plain(root) == {"a": 1}


def test_the_first_of_two_equal_keys_counts() -> None:
    faults: list[Fault] = []
    root = read_located(b"a: 1\na: 2\n", faults)
    assert root is not None
    assert plain(root) == {"a": 1}
    assert [fault.line for fault in faults] == [2]


def test_values_are_shown_as_the_file_writes_them() -> None:
    faults: list[Fault] = []
    root = read_located(b"{a: [1, x, null], b: true}", faults)
    assert shown(root) == "{a: [1, 'x', null], b: true}"
    assert shown("x" * 100) == "'" + "x" * 56 + "..."
