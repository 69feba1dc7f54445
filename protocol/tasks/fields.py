"""What recipes, tasks and campaigns are parsed with: the base of every record, and the field types they share."""

from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.canonical import NAME

Width = Annotated[int, Meta(ge=1, le=4096)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Name = Annotated[str, Meta(pattern=NAME)]

COMMAND_BITS, PIN_COUNT = 9, 20  # what a device machine reads and shows at each step


class StrictStruct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything that is parsed: immutable, no unknown field tolerated. kw_only is not inherited: repeat it."""
