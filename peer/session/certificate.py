"""A certificate of credit: the organizer's signed word, in a file that anybody can verify without a network."""

import base64
import binascii
import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from peer.session.client import Away, Client
from peer.storage.home import JoinCache
from protocol.canonical import NOT_DECODABLE
from protocol.errors import AwayError, DamageError, Refused, WrongKeyError, refused_there, shown
from protocol.files import read_limited, write_atomic
from protocol.rpc.wire import parse_address
from protocol.trust.envelope import Envelope, envelope_from_bytes, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import CreditCertificate

FILE_BYTES_MAX = 64 * 1024
SIGNED = "signed"  # the field of the file that counts: all others only repeat for people what it says


def fetch(home: Path) -> Envelope:
    """Ask the organizer whom this directory knows. Raises UsageError: nobody is known, away, or nothing is earned."""
    try:
        known = msgspec.json.decode(
            read_limited(home / "known.json", FILE_BYTES_MAX, "memory of the swarm"), type=JoinCache
        )
    except NOT_DECODABLE as error:
        raise DamageError(f"{home / 'known.json'}: {error}; `zooswarm join ADDRESS` writes it again") from None
    target, _ = parse_address(known.address)
    client = Client(target, Identity.load(home / "identity"), known.organizer)
    try:
        client.join(version("zooswarm"))
        return client.certificate()
    except Away as error:
        raise AwayError(f"{target}: {error}; try again later") from None
    except Refused as error:
        raise refused_there(error, target) from None
    finally:
        client.close()


def write_certificate(path: Path, envelope: Envelope) -> None:
    """Raises OSError."""
    told = about(envelope) | {SIGNED: base64.b64encode(envelope.to_bytes()).decode()}
    write_atomic(path, (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode())


def read_certificate(path: Path, organizer: str | None = None) -> dict[str, Any]:
    """What a certificate says, its signature verified; `organizer`: whose it has to be.

    Raises FileError, DamageError (no certificate, or changed since it was signed), WrongKeyError.
    """
    try:
        told = json.loads(read_limited(path, FILE_BYTES_MAX, "certificate"))
        signed = base64.b64decode(told[SIGNED], validate=True)
        said = about(envelope_from_bytes(signed, FILE_BYTES_MAX))
    except (Refused, KeyError, TypeError, binascii.Error, ValueError, RecursionError) as error:
        raise DamageError(f"{path}: this is no valid certificate ({shown(error, 200)})") from None
    if {name: value for name, value in told.items() if name != SIGNED} != said:
        raise DamageError(f"{path}: what it tells people is not what was signed; only its {SIGNED!r} field counts")
    if organizer is not None and said["organizer"] != organizer:
        raise WrongKeyError(f"{path}: signed by {said['organizer']}, not by {organizer}")
    return said


def about(envelope: Envelope) -> dict[str, Any]:
    """What the organizer says, for people. Raises Refused unless his signature holds."""
    certificate = unseal(envelope, CreditCertificate)
    return {
        "certificate": "credit in a zooswarm",
        "organizer": envelope.signer,
        "host": certificate.host,
        "name": certificate.name,
        "credit": certificate.credit,
        "escrow": certificate.escrow,
        "bundles": certificate.bundles,
        "since": day_of(certificate.first_seen),
        "signed_at": day_of(certificate.issued_at, "%Y-%m-%d %H:%M:%S UTC"),
    }


def day_of(seconds: float, form: str = "%Y-%m-%d") -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(form)
    except (OverflowError, ValueError, OSError):
        raise Refused("certificate", f"there is no day {seconds:g} s after 1970") from None


def sentence(said: dict[str, Any]) -> str:
    """One line."""
    escrow = f", {said['escrow']:,} of them in escrow" if said["escrow"] else ""
    return (
        f"{said['name']} ({said['host']}) has earned {said['credit']:,} network-segments{escrow} with "
        f"{said['bundles']:,} admitted bundles since {said['since']}; "
        f"signed by {said['organizer']} on {said['signed_at']}"
    )
