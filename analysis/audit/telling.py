"""What an audit found, in lines for people: what was proved, what was not, and how much could still be fake."""

from analysis.audit.check import Audit
from analysis.statistics.proportions import share_at_most
from protocol.recipes.recipe import ENGINE
from protocol.zoo.manifests import UNSIGNED

HOSTS_LISTED_MAX = 20
RETRACTIONS_LISTED_MAX = 20


def told(audit: Audit) -> list[str]:
    """The lines, the last one being the verdict. Text from the zoo is still to be shown harmlessly."""
    manifest, replays = audit.manifest, audit.replays
    whose = f"signed by {manifest.organizer}" if manifest.organizer else f"this is {UNSIGNED}"
    lines = [
        f"networks           {audit.networks} in {audit.bundles} bundles by {audit.hosts} hosts",
        f"manifest           {manifest.number} of {manifest.written_at}, {whose}",
        *retractions(audit),
        f"checked by others  {audit.checked_by_others} of {audit.networks}; {audit.cells} segments replayed, "
        f"{audit.cells_of_house} of them by the organizer",
    ]
    if audit.unverified:
        lines.append(
            f"not verified       the evidence of {audit.unverified} bundles, which is of version 0.1; training "
            "networks again does not need it"
        )
    for engine, networks in sorted(audit.other_engines.items()):
        lines.append(f"cannot be replayed {networks} networks are of {engine}; this version computes {ENGINE}")
    agreed = f": {replays.agreed} agreed, {replays.differed} differed" if audit.replayed else ""
    lines.append(f"trained again      {audit.replayed} of {audit.networks}{agreed}")
    if replays.stopped:
        lines.append("stopped            no more networks were trained again")
    return [*lines, *hosts(audit), *(f"PROBLEM            {text}" for text in audit.problems), *verdict(audit)]


def retractions(audit: Audit) -> list[str]:
    retracted = audit.manifest.retracted
    if not retracted:
        return []
    total = sum(retraction.networks for retraction in retracted)
    lines = [f"taken back         {total} networks in {len(retracted)} bundles"]
    for retraction in retracted[-RETRACTIONS_LISTED_MAX:]:
        where = f"evidence {retraction.evidence[:16]}, {retraction.networks} networks"
        lines.append(f"                   {where}, {retraction.retracted_at}: {retraction.reason}")
    return lines


def hosts(audit: Audit) -> list[str]:
    """A table, the worst first: who has given wrong networks, then who was checked least."""
    order = sorted(audit.by_host.items(), key=lambda pair: (-pair[1].differed, pair[1].cells / pair[1].networks))
    lines = [f"{'host':52}  networks  checked  segments  trained again"] if order else []
    for name, host in order[:HOSTS_LISTED_MAX]:
        again = f"{host.agreed} agreed" if host.agreed or host.differed else "none"
        again += f", {host.differed} DIFFERED" if host.differed else ""
        lines.append(f"{name:52}  {host.networks:8}  {host.checked:7}  {host.cells:8}  {again}")
    if len(order) > HOSTS_LISTED_MAX:
        lines.append(f"... and {len(order) - HOSTS_LISTED_MAX} hosts more")
    return lines


def verdict(audit: Audit) -> list[str]:
    """What follows from all of it."""
    problems, replays = len(audit.problems), audit.replays
    said = f"{problems} problem{'s' * (problems != 1)}" if problems else "no problem was found"
    left = audit.networks - audit.replayed
    if not left:
        proved = "every network was trained again, bit for bit" if audit.networks else "there are no networks"
        return [f"{said}; {proved}" if problems else f"the zoo is sound: {proved}"]
    lines = [f"NOT PROVED         that the other {left} networks are what their recipes give: only signatures say so"]
    if sum(audit.other_engines.values()) == audit.networks:
        return [*lines, f"{said}, but no network was trained again: an older version of zooswarm computes their engine"]
    if not replays.drawn:
        more = "`--replay 50` trains 50 of them again"
        return [*lines, f"{said}, but no network was trained again, so all could be fake; {more}"]
    share = 100 * share_at_most(replays.drawn_differed, replays.drawn)
    bound = f"at most {share:.2g} % of the networks could be fake (95 %), from {replays.drawn} that were drawn evenly"
    return [*lines, f"{said}; {bound}"]
