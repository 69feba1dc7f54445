"""Exact bytes: digests and canonical encodings."""

import functools
import hashlib
import re
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from protocol import tomllib
from protocol.errors import RecipeError

T = TypeVar("T")
# What msgspec raises for bytes that are not of a type; text that is not UTF-8 and brackets without end are not its own.
NOT_DECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
ONE_OF = re.compile(r"[Ee]xpected `str` matching regex '\^\(([\w|-]+)\)\\\\Z'")  # how msgspec spells a list of words
NAME = r"^[a-z0-9][a-z0-9._+-]{0,63}\Z"  # of campaigns, recipes, classes
NAME_WORDS = "expected 1 to 64 of a-z, 0-9 and . _ + - (the first a letter or digit, none a capital)"
DIGEST = re.compile(r"[0-9a-f]{64}")  # a SHA-256 as files and recipes spell it; use fullmatch


def sha256(*parts: bytes | memoryview) -> bytes:
    """SHA-256 of the concatenation; callers put fixed-length parts or a length before a variable one."""
    return hashlib.sha256(parts[0] if len(parts) == 1 else b"".join(parts)).digest()


def hexdigest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """One byte string per value: sorted keys, no spaces, shortest round-trip floats, UTF-8; no field at its default."""
    return msgspec.json.encode(_without_defaults(value), order="sorted")


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Working them out resolves every annotation: ten times what the rest of a recipe's encoding takes."""
    return msgspec.structs.fields(kind)


def _without_defaults(value: Any) -> Any:
    """Structs -> dictionaries of the fields that differ from their default (msgspec's own option compares objects)."""
    if isinstance(value, msgspec.Struct):
        config, told = value.__struct_config__, {}
        untold = getattr(value, "untold", {})  # field -> the value that is left out, where that is not the default
        if config.tag is not None and not getattr(value, "untold_tag", False):
            told[config.tag_field] = config.tag
        for field in _fields(type(value)):
            held = getattr(value, field.name)
            if field.default is msgspec.NODEFAULT or held != untold.get(field.name, field.default):
                told[field.encode_name] = _without_defaults(held)
        return told
    if isinstance(value, (list, tuple)):
        return [_without_defaults(item) for item in value]
    return value


def decode_toml(data: bytes, source: str) -> dict[str, Any]:
    """TOML bytes -> dict, or a UsageError with the source and the line. A byte order mark, which editors on Windows put
    first, is passed over."""
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise RecipeError(f"{source}: not a UTF-8 text file") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"{source}: not valid TOML: {str(error).splitlines()[0]}") from None


def convert(value: Any, kind: type[T], source: str) -> T:
    """Plain values -> a checked msgspec.Struct, or a UsageError that names the field."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{source}: {readable(error)}{near_miss(error, kind)}") from None


def near_miss(error: msgspec.ValidationError, kind: type) -> str:
    """`; did you mean learning_rate?` for a field that is no field, or a kind that is no kind; else ""."""
    text, _, place = str(error).partition(" - at `$")
    found = re.match(r"Object contains unknown field `(.*)`|Invalid value '(.*)'", text)
    if not found:
        return ""
    from msgspec.inspect import type_info

    parts, kinds = re.findall(r"\.\w+|\[[^\]]*\]", place), [type_info(kind)]
    for part in parts if found[1] else parts[:-1]:
        kinds = [inside for one in kinds for inside in _inside(one, part)]
    structs = [struct for one in kinds for struct in _one_by_one(one)]
    if found[1]:
        names = sorted({name for struct in structs for name in _names(struct)})
    else:
        names = sorted({str(struct.tag) for struct in structs if struct.tag_field == parts[-1].lstrip(".")})
    if found[1] in names:  # of another kind than the one that is meant here
        kinds_of = [f'{struct.tag_field} = "{struct.tag}"' for struct in structs if found[1] in _names(struct)]
        return f"; it is one of {' or '.join(kinds_of)}"
    close = get_close_matches(found[1] or found[2], names, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(names)}" if names else ""


def _names(struct: Any) -> list[str]:
    return [field.encode_name for field in struct.fields]


def _one_by_one(kind: Any) -> list[Any]:
    """The structs that a type may be."""
    return (
        [kind] if hasattr(kind, "fields") else [one for part in getattr(kind, "types", ()) for one in _one_by_one(part)]
    )


def _inside(kind: Any, part: str) -> list[Any]:
    """The types that stand at `.field` or at `[0]` of a type."""
    if part.startswith("."):
        return [field.type for one in _one_by_one(kind) for field in one.fields if part == f".{field.encode_name}"]
    held = (getattr(one, name, None) for one in getattr(kind, "types", (kind,)) for name in ("item_type", "value_type"))
    return [one for one in held if one is not None]


def readable(error: msgspec.ValidationError) -> str:
    """`Expected int >= 1 - at `$.training.batch`` -> `training.batch: expected int >= 1`."""
    text, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`").lstrip(".").replace("[...]", "[]")
    if "unknown field" in text:
        field = text.split("`")[1]
        return f"{place + '.' if place else ''}{field}: there is no such field"
    if "missing required field" in text:
        field = text.split("`")[1]
        return f"{place + '.' if place else ''}{field}: this field is required"
    text = re.sub(r"[Ee]xpected `str` matching regex " + re.escape(repr(NAME)), NAME_WORDS, text)
    text = ONE_OF.sub(lambda found: "expected one of " + found[1].replace("|", ", "), text)
    return f"{place or 'top level'}: {text[:1].lower()}{text[1:]}"
