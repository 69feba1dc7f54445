"""Thrift's compact protocol, as much as a Parquet file's footer and page headers need; bytes are another's.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

NESTING_MAX = 16
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


class Illegal(Exception):
    """Bytes that nobody could have written; str() says why, in a few words."""


class Fields:
    """A struct: field number -> value. What is missing, or of another type than asked for, raises Illegal."""

    def __init__(self, values: dict[int, Any]):
        self.values = values

    def number(self, field: int) -> int:
        value = self.values.get(field)
        if not isinstance(value, int):
            raise Illegal(f"field {field} is missing")
        return value

    def struct(self, field: int) -> "Fields":
        value = self.values.get(field)
        if not isinstance(value, Fields):
            raise Illegal(f"field {field} is missing")
        return value

    def structs(self, field: int) -> list["Fields"]:
        return self._list(field, Fields)

    def texts(self, field: int) -> list[bytes]:
        return self._list(field, bytes)

    def _list(self, field: int, kind: type) -> list[Any]:
        value = self.values.get(field)
        if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
            raise Illegal(f"field {field} is missing")
        return value


def read_struct(data: bytes) -> tuple[Fields, int]:
    """The struct at the beginning of `data`, and how many bytes it takes. Raises Illegal."""
    try:
        return _struct(data, 0, NESTING_MAX)
    except IndexError:
        raise Illegal("it is cut off or nested too deeply") from None


def _struct(data: bytes, place: int, depth: int) -> tuple[Fields, int]:
    values: dict[int, Any] = {}
    number = 0
    while (head := data[place]) != 0:
        place += 1
        if head >> 4:
            number += head >> 4
        else:
            number, place = _zigzag(data, place)
        kind = head & 15
        if I16 <= kind <= I64:  # nearly all are numbers, and nearly all of those are short
            byte = data[place]
            values[number], place = ((byte >> 1) ^ -(byte & 1), place + 1) if byte < 128 else _zigzag(data, place)
        elif kind in (TRUE, FALSE):
            values[number] = kind == TRUE
        else:
            values[number], place = _value(data, place, kind, depth)
    return Fields(values), place + 1


def _value(data: bytes, place: int, kind: int, depth: int) -> tuple[Any, int]:
    if depth == 0:
        raise IndexError
    if kind in (I16, I32, I64):
        return _zigzag(data, place)
    if kind in (TRUE, FALSE, BYTE):  # a boolean in a list takes a byte
        return data[place], place + 1
    if kind == DOUBLE:
        if place + 8 > len(data):  # a list of them must not go on behind the end
            raise IndexError
        return None, place + 8
    if kind == BINARY:
        length, place = _varint(data, place)
        if length > len(data) - place:
            raise IndexError
        return bytes(data[place : place + length]), place + length
    if kind in (LIST, SET):
        head, place = data[place], place + 1
        count, kind = head >> 4, head & 15
        if count == 15:
            count, place = _varint(data, place)
        items = []
        for _ in range(count):
            item, place = _value(data, place, kind, depth - 1)
            items.append(item)
        return items, place
    if kind == STRUCT:
        return _struct(data, place, depth - 1)
    raise IndexError


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte, place = data[place], place + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise IndexError


def _zigzag(data: bytes, place: int) -> tuple[int, int]:
    value, place = _varint(data, place)
    return (value >> 1) ^ -(value & 1), place
