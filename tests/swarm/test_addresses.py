"""Addresses: what a person may write, and what we say when it is wrong."""

import asyncio
import socket

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.errors import UsageError
from protocol.swarm.addresses import (
    NodeOptions,
    check_port_free,
    outward_first,
    port_of,
    split_address,
    startup_message,
    tcp_answers,
)
from protocol.trust.identity import Identity

HOST = Identity(Ed25519PrivateKey.from_private_bytes(bytes(32))).host  # the same in every process: it is in test names


@pytest.mark.parametrize(
    "where",
    [
        "/ip4/203.0.113.7/tcp/4001",
        "/ip6/2001:db8::7/tcp/4001",
        "/dns4/swarm.example.org/tcp/4001",
        "/ip4/203.0.113.7/udp/4001/quic-v1",
    ],
)
def test_addresses_carry_the_peer(where):
    assert split_address(f"{where}/p2p/{HOST}") == (where, HOST)
    assert port_of(where) == (4001 if "tcp" in where else None)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "example.org:4001",
        "/ip4/203.0.113.7/tcp/4001",
        f"/ip4/203.0.113.7/tcp/x/p2p/{HOST}",
        f"/ip4/203.0.113.7/tcp/4001/p2p/{HOST[:-1]}",
        "/ip4/203.0.113.7/tcp/4001/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        f"/ip4/203.0.113.7/tcp/4001/p2p/{HOST},/ip4/1.2.3.4/tcp/1/p2p/{HOST}",
        f" /ip4/203.0.113.7/tcp/4001/p2p/{HOST}",
    ],
)
def test_anything_else_is_refused_with_an_example(address):
    with pytest.raises(UsageError, match="it looks like /ip4/"):
        NodeOptions(bootstrap=(address,))


def test_options_are_checked():
    NodeOptions(announce=("/ip4/203.0.113.7/tcp/4001",), listen="::")
    for wrong in ("203.0.113.7:4001", "/ip4/203.0.113.7/tcp/0"):
        with pytest.raises(UsageError, match="not an address to announce"):
            NodeOptions(announce=(wrong,))
    with pytest.raises(UsageError, match=r"use 0\.0\.0\.0"):
        NodeOptions(listen="localhost")


def test_a_busy_port_is_noticed_and_a_closed_one_does_not_answer():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(UsageError, match="choose another port"):
            check_port_free("127.0.0.1", port)
        assert asyncio.run(tcp_answers(f"/ip4/127.0.0.1/tcp/{port}"))
    check_port_free("127.0.0.1", port)
    check_port_free("127.0.0.1", 0)
    assert not asyncio.run(tcp_answers(f"/ip4/127.0.0.1/tcp/{port}"))
    assert asyncio.run(tcp_answers("/ip4/127.0.0.1/udp/1/quic"))


def test_addresses_for_others_come_first():
    loopback, private, public = (f"/ip4/{ip}/tcp/1" for ip in ("127.0.0.1", "192.168.1.2", "8.8.8.8"))
    named = "/dns4/swarm.example.org/tcp/1"
    assert outward_first([loopback, private, public, named]) == [public, named, private, loopback]


def test_a_daemon_that_does_not_start_is_one_line_with_a_mend():
    cases = {
        "Daemon failed to start: listen tcp4 10.1.2.3:0: bind: cannot assign requested address": "listen on 0.0.0.0",
        "p2pd binary not found at p2pd": "reinstall hivemind",
        "Daemon failed to start in 60.0 seconds": "overloaded",
        "panic:\n something": "did not start: panic: something",
    }
    for error, mend in cases.items():
        message = startup_message(error, "10.1.2.3")
        assert mend in message and "\n" not in message
