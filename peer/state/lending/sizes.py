"""Sizes as people write and read them: `2GB` of disk, `500kB` a second."""

import re

from protocol.errors import UsageError

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNLIMITED = 1 << 62
RATE_MIN = 64_000  # bytes a second; less, and the organizer's host takes us for somebody who has stopped
RATE_MAX = 10**12
SIZE = re.compile(r"([^KMGT]*?)\s*(?:([KMGT])B?)?")


def bytes_of(text: str, unit: str = "") -> float:
    """`"2GB"`, `"500 mb"`, `"1.5G"` -> bytes; a number alone is in `unit`. 0 for what is no size."""
    found = SIZE.fullmatch(text.strip().upper())
    try:
        return float(found[1]) * UNITS[f"{found[2]}B" if found[2] else unit] if found else 0.0
    except (ValueError, KeyError):
        return 0.0


def parse_size(text: str) -> int:
    """`"2GB"`, `"500 MB"`, `"1.5G"`, `"3"` (GB) -> bytes. Raises UsageError."""
    size = bytes_of(text, "GB")
    if not UNITS["MB"] <= size <= UNLIMITED:
        raise UsageError(f"{text!r} is no size; write for example 500MB, 2GB or 1TB")
    return int(size)


def parse_rate(text: str) -> float:
    """`"500kB"`, `"2MB"`, `"1.5M/s"` -> bytes a second. Raises UsageError."""
    rate = bytes_of(text.strip().upper().removesuffix("/S"))
    if not RATE_MIN <= rate <= RATE_MAX:
        raise UsageError(f"--bandwidth {text}: write how much a second, 64kB or more, for example 500kB or 2MB")
    return rate


def size_text(size: int) -> str:
    """`11.7 GB`, `500 MB`."""
    for name in reversed(UNITS):
        if size >= UNITS[name]:
            return f"{size / UNITS[name]:.3g} {name}"
    return f"{size:,} bytes"
