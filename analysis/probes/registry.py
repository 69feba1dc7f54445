"""A probe by its name, and its settings from text. Nothing of a probe is imported before it is asked for."""

import dataclasses
import importlib
import typing
from collections.abc import Mapping
from typing import Any

from analysis.probes.contract import Probe, ProbeSettings
from analysis.probes.names import PROBES
from protocol.errors import UsageError

TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def probe_named(name: str) -> Probe[Any]:
    """A probe by its name in PROBES or its place. Raises UsageError: there is none of this name."""
    place = PROBES[name].place if name in PROBES else name
    module, colon, kind = place.partition(":")
    if not colon:
        raise UsageError(f"there is no probe {name!r}; probes: {', '.join(PROBES)}")
    return getattr(importlib.import_module(module), kind)()


def settings_from(kind: type[ProbeSettings], chosen: Mapping[str, str]) -> ProbeSettings:
    """Settings with these fields read from text; a tuple's entries stand between commas.

    Raises UsageError: no such field, or a text that is not of its type.
    """
    types = {field.name: typing.get_type_hints(kind)[field.name] for field in dataclasses.fields(kind)}
    values = {}
    for name, text in chosen.items():
        if name not in types:
            raise UsageError(f"--set {name}: {kind.probe} has no such setting; settings: {', '.join(types)}")
        try:
            values[name] = value_from(types[name], text)
        except ValueError:
            told = getattr(types[name], "__name__", str(types[name]))
            raise UsageError(f"--set {name}={text}: not of type {told}") from None
    return kind(**values)


def value_from(kind: Any, text: str) -> Any:
    """Raises ValueError."""
    if typing.get_origin(kind) is tuple:
        each = typing.get_args(kind)[0]
        return tuple(value_from(each, part.strip()) for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() not in TRUTHS:
            raise ValueError(text)
        return TRUTHS[text.lower()]
    return kind(text)
