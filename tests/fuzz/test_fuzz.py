"""A short slice of `scripts/fuzz`, and that the fuzzer itself would notice."""

import random

import pytest

from fuzz.mutate import GROWN_MAX, mutated
from fuzz.runner import Broken, Tally, fuzz, run
from fuzz.targets import Target, subclasses, targets
from protocol.errors import Refused
from protocol.swarm.records import Value
from protocol.trust.envelope import Envelope, Message, envelope_from_bytes, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import Admission

ALL = targets()
BY_NAME = {target.name: target for target in ALL}
INPUTS = 1000  # `scripts/fuzz` for more


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_each_parser_takes_a_legal_sample(target):
    """Else the fuzzer would only see the first line of a parser."""
    tally = Tally()
    for sample in target.samples:
        run(target, sample, tally)
        if tally.accepted[target.name]:
            return
    pytest.fail(f"none of its samples is legal: {dict(tally.refused)}")


def test_a_slice_of_malformed_inputs_over_all_parsers():
    seed = random.randrange(2**31)
    print("seed", seed)
    tally = fuzz(ALL, INPUTS, seed)
    assert tally.inputs.total() == INPUTS and set(tally.inputs) == set(BY_NAME)
    assert tally.accepted.total() + tally.refused.total() == INPUTS, "each refusal is counted"


def test_every_message_and_every_record_is_a_target():
    kinds = {f"message {kind.KIND}" for kind in subclasses(Message) if kind.KIND}
    kinds |= {f"record {kind.__name__}" for kind in subclasses(Value)}
    assert len(kinds) >= 15 and kinds <= set(BY_NAME)


def test_what_a_stranger_can_send_is_a_target():
    assert set(BY_NAME) >= {
        "envelope", "recipe bytes", "campaign bytes", "recipe TOML", "campaign TOML", "zoo manifest", "openings",
        "trace", "states", "weights", "evidence", "shard", "catalogue", "data set", "data file", "address",
        "thrift", "footer", "check request judged", "evidence judged", "opening judged", "ticket judged",
        "multiaddress", "host.json", "known.json", "invite", "checkpoint", "kept states", "kept leaves", "import npz",
    }  # fmt: skip


def test_the_inputs_are_a_function_of_the_seed():
    samples = BY_NAME["envelope"].samples
    first, again = ([mutated(samples[0], samples, random.Random(i)) for i in range(200)] for _ in range(2))
    assert first == again and len(set(first)) > 150
    assert max(map(len, first)) <= GROWN_MAX


def crash(data: bytes) -> None:
    raise KeyError("of ours")


def spin(data: bytes) -> None:
    sum(i * i for i in range(200_000))


@pytest.mark.parametrize(("parse", "word"), [(crash, "KeyError"), (spin, "s of processor time")])
def test_a_crash_and_a_hang_are_found(parse, word):
    with pytest.raises(Broken, match=word):
        fuzz([Target(name="bad", parse=parse, samples=(b"x",), seconds=0.001)], 1, seed=1)


def test_growth_is_found(monkeypatch):
    peaks = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr("fuzz.runner.peak_bytes", lambda: next(peaks) + 1)
    with pytest.raises(Broken, match="MB more than at the start"):
        fuzz([Target(name="bad", parse=len, samples=(b"x",))], 1000, seed=1)


# -- what it has found ------------------------------------------------------------------------------------------------


def test_text_that_is_no_utf8_in_a_signed_message_is_refused():
    """msgspec raises UnicodeDecodeError for it, which was our own trouble to the service: a traceback a message."""
    me = Identity.generate()
    payload = b"\x84\xa6result\xc4\x20" + b"r" * 32 + b"\xa7outcome\xa4void\xa6reason\xa2\xff\xfe\xa6credit\x00"
    envelope = Envelope(
        kind="admission", signer=me.host, payload=payload, signature=me.sign("message/admission", payload)
    )
    with pytest.raises(Refused, match="message-schema"):
        unseal(envelope, Admission)
    with pytest.raises(Refused, match="envelope"):
        envelope_from_bytes(envelope.to_bytes().replace(b"admission", b"\xff" * 9))
