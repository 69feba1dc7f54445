"""Options that are remembered: `settings.toml` in the volunteer's directory. What is typed wins.

    cpu = 50
    hours = "22-6"
    only_when_idle = true

A name is an option of `zooswarm join` without its dashes, `-` written `_`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocol import tomllib
from protocol.errors import UsageError
from protocol.files import PRIVATE, read_limited, write_atomic

SETTINGS = "settings.toml"
SETTINGS_BYTES_MAX = 64 * 1024
HEAD = "# Options of `zooswarm join` in this directory; what is typed wins. Written by --remember; edit as you like.\n"


def read_settings(home: Path, known: Mapping[str, type]) -> dict[str, Any]:
    """The remembered options by name; none when there is no file. `known`: what may be there, and of which type.

    Raises UsageError for what is no TOML, an unknown name, and a value of another type.
    """
    path, found = home / SETTINGS, remembered_settings(home)
    for name, value in found.items():
        if name not in known:
            raise UsageError(f"{path}: there is no option {name!r}; there are {', '.join(sorted(known))}")
        if type(value) is not known[name] and not (known[name] is float and type(value) is int):
            raise UsageError(f"{path}: {name} = {value!r} is no {WORDS[known[name]]}")
    return found


def remembered_settings(home: Path) -> dict[str, Any]:
    """The same, whatever is in it. Raises UsageError for what is no TOML."""
    path = home / SETTINGS
    if not path.exists():
        return {}
    try:
        return tomllib.loads(read_limited(path, SETTINGS_BYTES_MAX, "settings file").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: {error}; mend or remove it") from None


def write_settings(home: Path, options: Mapping[str, Any]) -> Path:
    """Remember these options instead of those before. Raises OSError."""
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in sorted(options.items())]  # TOML writes these alike
    write_atomic(home / SETTINGS, (HEAD + "".join(lines)).encode(), PRIVATE)
    return home / SETTINGS


WORDS = {bool: "true or false", int: "whole number", float: "number", str: 'text in quotes ("...")'}
