"""Connections to an organizer, encrypted, and proved to end at the organizer's key.

A TLS library asks for a root that it trusts. Ours is made from the PeerID in the address: an authority whose public key
is the organizer's. The host makes a key for its connections at each start and signs its certificate with its identity.
So an address `host:port/PEERID` is all that a client needs, and nobody else can answer there.
"""

import datetime
import functools
import ipaddress
import socket
import ssl
import time

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from protocol.errors import AddressError, AwayError, Refused
from protocol.rpc.invite import check_time, is_invite, read_invite
from protocol.rpc.wire import GRPC_OPTIONS, parse_address
from protocol.trust.identity import Identity, public_key

SERVER_NAME = "organizer.zooswarm"  # in every organizer's certificate: the key is what counts, not the name
CHANNEL_OPTIONS = [*GRPC_OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME)]
ASK_SECONDS = 5.0
KNOCK_SECONDS = 2.0  # at each address of an invite, where it has more than one
# A wrong clock must lock nobody out, and the key in the certificate is gone when the host's process ends.
FROM, UNTIL = datetime.datetime(2020, 1, 1), datetime.datetime(9999, 12, 31)
NO_HOST = "what answers there is no zooswarm host; is the port right?"
STRANGER = ("handshake failed", "CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")  # in the details of a failed call


def server_credentials(identity: Identity) -> grpc.ServerCredentials:
    """For the organizer's own service: a fresh key, certified by the identity."""
    key = ec.generate_private_key(ec.SECP256R1())  # gRPC's library takes Ed25519 for authorities, not for connections
    builder = _builder(SERVER_NAME, identity.host, key.public_key(), authority=False)
    names = x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)])
    certificate = identity.certify(builder.add_extension(names, critical=False))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return grpc.ssl_server_credentials([(private, certificate.public_bytes(serialization.Encoding.PEM))])


@functools.lru_cache(maxsize=16)
def channel_credentials(organizer: str) -> grpc.ChannelCredentials:
    """Trust this organizer's key and nothing else. Raises Refused when it is no PeerID."""
    key = Ed25519PublicKey.from_public_bytes(public_key(organizer))
    root = _builder(organizer, organizer, key, authority=True)
    # Who signs a root does not matter, nobody verifies it: it is the key inside that is trusted.
    pem = root.sign(Ed25519PrivateKey.generate(), None).public_bytes(serialization.Encoding.PEM)
    return grpc.ssl_channel_credentials(pem)


def open_channel(target: str, organizer: str | None) -> grpc.Channel:
    """To the organizer at `host:port`; nothing is sent yet.

    Without an organizer only on this machine, where whoever answers is taken. Raises UsageError, ConnectionError.
    """
    credentials = channel_credentials(organizer or organizer_at(target))
    return grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)


def locate(text: str, *, member: bool = False) -> str:
    """`host:port/ORGANIZER` of what a person typed: an address as it is, of an invite the first that anybody answers.

    A `member` of the swarm comes in with an invite that has run out. Raises UsageError.
    """
    if not is_invite(text):
        parse_address(text)
        return text
    invite = read_invite(text)
    if not member:
        check_time(invite, time.time())
    found = invite.addresses[0]
    if len(invite.addresses) > 1:
        pairs = zip(invite.targets, invite.addresses, strict=True)
        found = next((address for target, address in pairs if _knock(target)), found)
    return found


def _knock(target: str) -> bool:
    """Whether anybody at all takes a connection there."""
    name, _, port = target.rpartition(":")
    try:
        with socket.create_connection((name.strip("[]"), int(port)), KNOCK_SECONDS):
            return True
    except OSError:
        return False


def organizer_at(target: str) -> str:
    """Who says to be the organizer at `host:port` of this machine: elsewhere anybody could say so.

    Raises UsageError when it is elsewhere or no host, ConnectionError when nobody answers.
    """
    name, _, port = target.rpartition(":")
    name = name.strip("[]")
    if not is_loopback(name):
        raise AddressError(
            f"{target}: the organizer's name is missing, so anybody could answer; give the whole address that "
            f"`zooswarm host` prints, {target}/12D3..."
        )
    try:
        pem = ssl.get_server_certificate((name, int(port)), timeout=ASK_SECONDS)
        issuer = x509.load_pem_x509_certificate(pem.encode()).issuer
        organizer = str(issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        public_key(organizer)
    except ssl.SSLError:
        raise AwayError(f"{target}: {NO_HOST}") from None
    except OSError as error:
        raise ConnectionError(f"nobody answers at {target} ({error.strerror or error})") from None
    except (ValueError, IndexError, Refused):
        raise AwayError(f"{target}: {NO_HOST}") from None
    return organizer


def is_loopback(name: str) -> bool:
    """Whether this is a name of this very machine, without asking a name server."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def is_stranger(error: grpc.RpcError) -> bool:
    """Whether the call failed because somebody answers there who has not the organizer's key."""
    details = str(error.details() if isinstance(error, grpc.Call) else error)
    return any(mark in details for mark in STRANGER)


def is_no_host(error: grpc.RpcError) -> bool:
    """Whether that somebody does not even speak TLS."""
    return "WRONG_VERSION_NUMBER" in str(error.details() if isinstance(error, grpc.Call) else error)


def _builder(subject: str, issuer: str, key: object, *, authority: bool) -> x509.CertificateBuilder:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = x509.CertificateBuilder(subject_name=name(subject), issuer_name=name(issuer))
    builder = builder.public_key(key)  # type: ignore[arg-type]
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(FROM).not_valid_after(UNTIL)
    return builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
