"""The parts of hivemind that a node needs, without its `__init__` files. Imported only by `swarm`, when a node starts.

`hivemind/__init__.py` imports its averaging, experts and optimizers, and `hivemind/utils/__init__.py` a future in
shared memory: all need torch (2 s and 200 MB), which no volunteer and no host needs. So the three packages whose
`__init__` leads there stand here as empty packages with the right path; their modules are then imported as always, from
the files that were installed. `hivemind.utils` gets the names that the modules below import from it, no others.

In a program that has imported the whole of hivemind before, nothing is changed. `tests/swarm/test_hivemind_parts.py`
tells when a release of hivemind no longer fits.
"""

# ruff: noqa: E402  (the packages have to stand before their modules are imported)
# pyright: reportAttributeAccessIssue=false
# (protobuf's generated modules)

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec

STANDINS = ("hivemind", "hivemind.utils", "hivemind.dht")
UTILS = {  # what the modules below import from `hivemind.utils` itself
    "logging": ("get_logger",),
    "serializer": ("MSGPackSerializer", "SerializerBase"),
    "timed_storage": ("get_dht_time",),
}


def stand_in(name: str) -> None:
    """A package without what its `__init__` would do. Raises ModuleNotFoundError: hivemind is not installed."""
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"{name} is not installed", name=name)
    package = sys.modules[name] = module_from_spec(spec)
    above, _, own = name.rpartition(".")
    if above:
        setattr(sys.modules[above], own, package)


if "hivemind" not in sys.modules:
    for package in STANDINS:
        stand_in(package)
    for module, names in UTILS.items():
        for exported in names:
            found = getattr(import_module(f"hivemind.utils.{module}"), exported)
            setattr(sys.modules["hivemind.utils"], exported, found)

import hivemind.dht.node as dht_node
import hivemind.dht.protocol as dht_protocol
import hivemind.dht.routing as dht_routing
import hivemind.p2p.p2p_daemon as p2p_daemon
import hivemind.utils.timed_storage as timed_storage
from hivemind.dht.node import DHTNode
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DHTLocalStorage, DictionaryDHTValue
from hivemind.p2p import P2P, P2PContext, PeerID
from hivemind.p2p.p2p_daemon_bindings.control import ControlClient
from hivemind.proto import dht_pb2, p2pd_pb2
from hivemind.utils.logging import use_hivemind_log_handler
from hivemind.utils.multiaddr import Multiaddr
from hivemind.utils.serializer import MSGPackSerializer
from hivemind.utils.timed_storage import TimedStorage, ValueWithExpiration

__all__ = [
    "DHTID",
    "P2P",
    "ControlClient",
    "DHTLocalStorage",
    "DHTNode",
    "DictionaryDHTValue",
    "MSGPackSerializer",
    "Multiaddr",
    "P2PContext",
    "PeerID",
    "TimedStorage",
    "ValueWithExpiration",
    "dht_node",
    "dht_pb2",
    "dht_protocol",
    "dht_routing",
    "p2p_daemon",
    "p2pd_pb2",
    "timed_storage",
    "use_hivemind_log_handler",
]
