"""From what a person typed, an address or an invite, to the organizer."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from peer.session.client import Away, Client
from peer.state.backoff import Backoff
from peer.storage.home import Home, JoinCache, read_known
from peer.storage.workspace import disk_error
from protocol.errors import Refused, refused_there
from protocol.rpc.channel import locate
from protocol.rpc.invite import is_invite, read_invite
from protocol.rpc.wire import parse_address
from protocol.trust.identity import Identity

CACHED_CAMPAIGNS_MAX = 64
BOOTSTRAP_MAX = 16
KNOCK_SECONDS = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereto:
    """Where the organizer is said to be."""

    address: str  # host:port/ORGANIZER, as the directory remembers it
    bootstrap: tuple[str, ...] = ()  # other nodes of the swarm
    others: bool = False  # the invite has more addresses than this

    @classmethod
    def typed(cls, text: str, known: Path) -> "Whereto":
        """`known`: the file of what the last join taught. Raises UsageError: no address, or an invite that ran out."""
        if not is_invite(text):
            return cls(address=locate(text))
        invite = read_invite(text)
        member = any(read_known(known, address) for address in invite.addresses)
        address = locate(text, member=member)
        return cls(address=address, bootstrap=invite.bootstrap, others=len(invite.targets) > 1)


def knock(whereto: Whereto) -> None:
    """Before a directory is made: who is refused leaves nothing behind. Raises UsageError; nobody there is no harm."""
    target, organizer = parse_address(whereto.address)
    with contextlib.closing(Client(target, Identity.generate(), organizer)) as client:
        try:
            client.join(version("zooswarm"), KNOCK_SECONDS)
        except Refused as error:
            raise refused_there(error, target) from None
        except Away:
            pass


def find_coordinator(client: Client, home: Home, text: str, whereto: Whereto, say: Say) -> JoinCache:
    """Ask the coordinator how to join; while it is away, go on with what the last join or the invite taught, or keep
    trying. Raises UsageError when it refuses us."""
    backoff, address = Backoff(), whereto.address
    while True:
        try:
            welcome = client.join(version("zooswarm"))
            assert client.organizer is not None
            cache = JoinCache(
                address=address,
                organizer=client.organizer,
                bootstrap=list(welcome.bootstrap)[:BOOTSTRAP_MAX],
                campaigns=list(welcome.campaigns)[:CACHED_CAMPAIGNS_MAX],
            )
            keep(home, cache, say)
            return cache
        except Refused as error:
            raise refused_there(error, client.target) from None
        except Away as error:
            known = home.known(address) or _invited(client, whereto)
            if known is not None and client.organizer in (None, known.organizer):
                client.organizer = known.organizer
                say(f"the coordinator at {client.target} is away ({error}); going on with what we know of the swarm")
                return known
            backoff = backoff.failed(time.monotonic())
            say(f"{away(client.target, error)} Trying again in {backoff.delay:.0f} s, Ctrl-C to stop")
            time.sleep(backoff.delay)
            if whereto.others:
                address = locate(text, member=True)
                client.move(parse_address(address)[0])


def away(target: str, error: Away) -> str:
    """Whether the address is right is the first thing to look at: nobody has ever answered us there."""
    words = str(error)
    return f"{words if target in words else f'nobody answers at {target} ({words})'}; is the address right?"


def _invited(client: Client, whereto: Whereto) -> JoinCache | None:
    """An invite's nodes know where the organizer has moved to."""
    if not whereto.bootstrap or client.organizer is None:
        return None
    return JoinCache(
        address=whereto.address, organizer=client.organizer, bootstrap=list(whereto.bootstrap), campaigns=[]
    )


def keep(home: Home, cache: JoinCache, say: Say) -> None:
    """A full disk costs us the memory of the swarm, not the run."""
    try:
        home.remember(cache)
    except OSError as error:
        say(f"{disk_error(error, home.path)}; the swarm's addresses are not kept, make room")
