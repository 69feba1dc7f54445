"""Which versions of the program work together: those whose first two numbers are the same (0.2.1 and 0.2.7).

Both sides look: the host at who joins, who joins at the host's welcome. So whoever is newer can say it, also when the
other was written before there was anything to say. A zoo outlives every version, so who only pulls is not asked.
"""

import re

from protocol.errors import Refused

SERIES = re.compile(r"v?(\d{1,5})\.(\d{1,5})(?![\d])")


def series(version: str) -> tuple[int, int] | None:
    """The first two numbers of `0.2.0.dev0`; None for what is no version (tests, other programs)."""
    found = SERIES.match(version)
    return (int(found[1]), int(found[2])) if found else None


def check_versions(volunteers: str, hosts: str) -> None:
    """Raises Refused("version"), with the mend, when a volunteer and a host do not understand each other."""
    ours, theirs = series(volunteers), series(hosts)
    if ours is None or theirs is None or ours == theirs:
        return
    install = f"install zooswarm {theirs[0]}.{theirs[1]}"
    mend = install if ours < theirs else f"ask its organizer to update it, or {install}"
    raise Refused("version", f"this host is of version {hosts}, the volunteer of {volunteers}: {mend}")
