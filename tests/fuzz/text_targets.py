"""What people and organizers write: recipes, campaigns, addresses, sizes."""

from pathlib import Path

import base58
from support.scripted_host import CAMPAIGN, RECIPE

from coordinator.server.running.addresses import split_listen
from fuzz.targets import Target
from fuzz.workbench import at
from peer.state.lending.sizes import parse_size
from protocol.recipes.campaign import campaign_from_bytes, load_campaign
from protocol.recipes.recipe import load_recipe, recipe_from_bytes
from protocol.rpc.invite import PREFIX, Invite, make_invite, read_invite
from protocol.rpc.wire import parse_address
from protocol.swarm.addresses import NodeOptions, split_address
from protocol.trust.identity import Identity, public_key

ROOT = Path(__file__).parents[2]


def text_targets() -> list[Target]:
    recipes = sorted((ROOT / "recipes").glob("*.toml"))
    plain = [path for path in recipes if "campaign" not in path.name and path.name != "demo.toml"]
    exact = tuple(load_recipe(path).exact for path in plain)
    campaigns = [path for path in recipes if path not in plain and path.stat().st_size < 1200]
    for path in recipes:
        at(path.name, path.read_bytes())  # campaigns name recipes beside them
    host = Identity.generate().host
    multi = f"/ip4/203.0.113.7/tcp/4001/p2p/{host}"
    full = Invite(organizer=host, targets=("[2001:db8::1]:1", "a.example:7750"), bootstrap=(multi,), expires_at=2**31)
    codes = [make_invite(full), make_invite(Invite(organizer=host, targets=("203.0.113.7:7750",)))]
    toml = tuple(path.read_bytes() for path in campaigns)  # of 900 recipes at most: a second, once, for its organizer
    return [
        Target(name="recipe bytes", parse=recipe_from_bytes, samples=(RECIPE.exact, *exact), share=4),
        Target(name="campaign bytes", parse=campaign_from_bytes, samples=(CAMPAIGN.exact,), share=4),
        Target(name="recipe TOML", parse=recipe_file, samples=tuple(path.read_bytes() for path in plain), share=2),
        Target(name="campaign TOML", parse=campaign_file, samples=toml, seconds=10),
        Target(
            name="address", parse=text(parse_address), samples=(f"swarm.example.org:7750/{host}".encode(), b"[::1]:1")
        ),
        Target(name="invite", parse=text(read_invite), samples=tuple(code.encode() for code in codes)),
        Target(name="invite inside", parse=invite_inside, samples=tuple(map(inside, codes)), share=2),
        Target(name="multiaddress", parse=text(split_address), samples=(multi.encode(), b"/dns4/a.b/udp/1/quic/p2p/x")),
        Target(
            name="announced",
            parse=text(lambda told: NodeOptions(announce=[told])),
            samples=(b"/ip4/203.0.113.7/tcp/4001",),
        ),
        Target(name="listen", parse=text(split_listen), samples=(b"0.0.0.0:7750", b"[::]:1")),
        Target(name="host name", parse=text(public_key), samples=(host.encode(),)),
        Target(name="size", parse=text(parse_size), samples=(b"2GB", b"1.5 tb", b"500MB")),
    ]


def text(parse):
    """Of the command line: what the shell hands over, undecodable bytes as lone surrogates."""
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def inside(code: str) -> bytes:
    """What the checksum of an invite protects."""
    return base58.b58decode_check(code[len(PREFIX) :])


def invite_inside(data: bytes) -> object:
    return read_invite(PREFIX + base58.b58encode_check(data).decode())


def recipe_file(data: bytes) -> object:
    return load_recipe(at("recipe.toml", data))


def campaign_file(data: bytes) -> object:
    return load_campaign(at("campaign.toml", data))
