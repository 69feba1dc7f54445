"""The contract: everything that crosses a border or must be the same everywhere. Each room builds on those before it.

- `errors`, `canonical`, `files`: what a refusal is; JSON and digests that are the same on every machine; writes that
  are whole or absent, locks, this user's directories
- `tasks`: what networks learn from, parameters in, the same arrays everywhere
- `recipes`: what is asked for, as data: layers, a recipe, a campaign
- `engine`: weights = train(recipe, seed), bit for bit
- `trust`: how a stranger's work is accepted: signatures, commitment, challenge, verdict, admission, evidence
- `swarm`: how hosts find each other and share out the work
- `zoo`: the store's layout, and how to read and verify it
- `rpc`: the organizer's gRPC service
- `page`: a swarm as a web page
- `cli`: the one command, `zooswarm`

Below is what newer Pythons brought, for Python 3.10, the oldest that volunteers may have: nobody else asks for the
version. Organizers and analysts need 3.11 (`protocol.cli.libraries`), so what only they use is not here.
"""

import sys
from typing import Any

__all__ = ["OWN_GROUP", "TIMEOUTS", "StrEnum", "run_module", "tomllib"]

if sys.version_info >= (3, 11):
    import tomllib
    from enum import StrEnum

    TIMEOUTS = (TimeoutError,)
    OWN_GROUP: dict[str, Any] = {"process_group": 0}
else:
    import asyncio
    import concurrent.futures
    import enum

    import tomli as tomllib  # pyright: ignore[reportMissingImports]

    TIMEOUTS = (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)  # one class since 3.11
    OWN_GROUP: dict[str, Any] = {"start_new_session": True}

    class StrEnum(str, enum.Enum):
        """A member is its text, also where it is formatted."""

        __str__ = str.__str__


def run_module(name: str) -> list[str]:
    """What an interpreter is told to run a module, and to import nothing from the folder where it is started."""
    if sys.version_info >= (3, 11):
        return ["-P", "-m", name]
    begin = "import runpy, sys; sys.path.pop(0); "
    return ["-c", f"{begin}runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"]
