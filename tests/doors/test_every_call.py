"""Every call of coordinator.proto is answered, says what it refuses, has a caller, and is in the documents."""

import re
from pathlib import Path

import pytest

from coordinator.server.service import Service
from protocol.rpc import coordinator_pb2

ROOT = Path(__file__).parents[2]
CALLS = [method.name for method in coordinator_pb2.DESCRIPTOR.services_by_name["Coordinator"].methods]
CLIENTS = ("peer/session/client.py", "coordinator/client.py", "analysis/pull/source.py")


@pytest.mark.parametrize("call", CALLS)
def test_it_is_answered_and_says_what_it_refuses(call):
    handler = vars(Service).get(call)
    assert handler is not None, f"coordinator/server/service.py does not answer {call}"
    assert re.search("[Rr]efuse", handler.__doc__ or ""), (
        f"the docstring of Service.{call} does not say what it refuses"
    )


@pytest.mark.parametrize("call", CALLS)
def test_somebody_calls_it(call):
    callers = [name for name in CLIENTS if re.search(rf"stub\.{call}\b", (ROOT / name).read_text())]
    assert callers, f"none of {', '.join(CLIENTS)} calls {call}"


def test_nothing_else_is_answered():
    answered = {name for name, value in vars(Service).items() if name[0].isupper() and callable(value)}
    assert answered == set(CALLS)
