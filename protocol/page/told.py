"""A coordinator's status into the values of the page, whether it is our own or comes from another host's JSON.

`state_of` first. Nothing is believed of it but its shape: texts become harmless lines, lists are cut.
"""

from typing import Any

import msgspec

from protocol.errors import Refused, shown
from protocol.page.state import MAP_BYTES_MAX, State, ZooMap

TEXT_MAX, LIST_MAX, DEPTH_MAX = 300, 200, 8  # characters; items of a list; more is nobody's status
WHOLE = {"zoo_map", "recent"}  # longer lists, made and bounded by ourselves


def state_of(status: Any, **ours: Any) -> State:
    """`status` is what `zooswarm status --json` prints, as builtins or structs; `ours` are fields of `State` beside it.

    Raises Refused: it does not have that shape.
    """
    heard = harmless(msgspec.to_builtins(status))
    if not isinstance(heard, dict):
        raise Refused("status", "not a JSON object")
    own = {name: value if name in WHOLE else harmless(value) for name, value in msgspec.to_builtins(ours).items()}
    try:
        return msgspec.convert({**{k: v for k, v in heard.items() if k not in WHOLE}, **own}, State)
    except msgspec.ValidationError as error:
        raise Refused("status", str(error)) from None


def harmless(value: Any, depth: int = 0) -> Any:
    """The same with every text one printable line of at most TEXT_MAX characters, lists and objects cut to LIST_MAX."""
    if isinstance(value, str):
        return shown(value, TEXT_MAX)
    if depth > DEPTH_MAX:
        return None
    if isinstance(value, dict):
        return {shown(k, TEXT_MAX): harmless(v, depth + 1) for k, v in list(value.items())[:LIST_MAX]}
    if isinstance(value, list | tuple):
        return [harmless(v, depth + 1) for v in value[:LIST_MAX]]
    return value


def map_from_bytes(data: bytes) -> ZooMap:
    """What another process wrote. Raises Refused."""
    if len(data) > MAP_BYTES_MAX:
        raise Refused("map", f"more than {MAP_BYTES_MAX:,} bytes")
    try:
        found = msgspec.json.decode(data, type=ZooMap)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("map", str(error)) from None
    for panel in found.panels:
        if any(label >= len(panel.classes) for _, _, label in panel.points):
            raise Refused("map", "a point of a class that has no name")
    return found
