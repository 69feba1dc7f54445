"""A legal value of any msgspec type, drawn at random: so each kind of message has samples as soon as it exists."""

import enum
import random
import re
from typing import Any

import msgspec
from msgspec import inspect as types

TEXTS = (
    "a",
    "0" * 64,
    "12D3KooW" + "x" * 44,
    "xor",
    "exact-1",
    "exact-2",
    "zooswarm-zoo/1",
    "127.0.0.1:7750",
    "pytorch",
    "adam",
    "",
)
LENGTH_MAX = 3  # of drawn lists, unless more are asked for


def draw(kind: Any, rng: random.Random) -> Any:
    """A value that `kind` (a type, or what msgspec says of it) accepts; in the shape that encoders take."""
    info = kind if isinstance(kind, types.Type) else types.type_info(kind)
    match info:
        case types.Metadata():
            return draw(info.type, rng)
        case types.StructType():
            return draw_struct(info, rng)
        case types.UnionType():
            return draw(rng.choice(info.types), rng)
        case types.NoneType():
            return None
        case types.BoolType():
            return rng.random() < 0.5
        case types.IntType():
            low = info.ge if info.ge is not None else (info.gt + 1 if info.gt is not None else 0)
            high = info.le if info.le is not None else (info.lt - 1 if info.lt is not None else low + 1000)
            return rng.randint(low, min(high, low + 1000))
        case types.FloatType():
            low = next((bound for bound in (info.ge, info.gt) if bound is not None), 0.0)
            high = next((bound for bound in (info.le, info.lt) if bound is not None), low + 1000)
            return low + (high - low) * (0.01 + 0.98 * rng.random())
        case types.StrType():
            return draw_text(info, rng)
        case types.BytesType():
            least, most = info.min_length or 0, info.max_length
            return rng.randbytes(min(max(least, LENGTH_MAX), most if most is not None else least + LENGTH_MAX))
        case types.EnumType():
            return rng.choice(list(info.cls)).value if issubclass(info.cls, enum.Enum) else None
        case types.LiteralType():
            return rng.choice(info.values)
        case types.TupleType():
            return tuple(draw(item, rng) for item in info.item_types)
        case types.VarTupleType() | types.ListType() | types.SetType() | types.FrozenSetType():
            most = min(LENGTH_MAX if info.max_length is None else info.max_length, LENGTH_MAX)
            count = max(info.min_length or 0, rng.randint(0, most))
            return tuple(draw(info.item_type, rng) for _ in range(count))
        case types.DictType():
            return {draw(info.key_type, rng): draw(info.value_type, rng) for _ in range(rng.randint(0, LENGTH_MAX))}
    return None


def draw_struct(info: types.StructType, rng: random.Random) -> Any:
    named = {field.encode_name: draw(field.type, rng) for field in info.fields}
    if info.array_like:
        return list(named.values())
    return named | ({info.tag_field: info.tag} if info.tag_field else {})


def draw_text(info: types.StrType, rng: random.Random) -> str:
    """One of TEXTS that the pattern and the lengths allow."""
    least, most = info.min_length or 0, info.max_length if info.max_length is not None else 1000
    fitting = [
        text
        for text in (*TEXTS, "x" * least)
        if least <= len(text) <= most and (info.pattern is None or re.search(info.pattern, text))
    ]
    return rng.choice(fitting) if fitting else alternatives(info.pattern or "", rng)


def alternatives(pattern: str, rng: random.Random) -> str:
    """`^(mse|bce)$` -> one of the words."""
    words = re.findall(r"[\w.-]+", pattern.replace(r"\Z", ""))
    return rng.choice(words) if words else ""


def encoded(kind: Any, rng: random.Random) -> bytes:
    return msgspec.msgpack.encode(draw(kind, rng))
