"""The loop: inputs for all targets in turn, with limits for time and memory, and a count of every refusal."""

import random
import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fuzz.mutate import mutated
from fuzz.targets import ALLOWED, Target

GROWTH_MAX = 256 * 1024 * 1024  # bytes of memory over all inputs, beyond what the first ones needed
WARM_INPUTS = 2  # of each target, before memory is compared: imports, caches, thread pools


class Broken(Exception):
    """A parser did what no input may make it do; the text says how to see it again."""


@dataclass
class Tally:
    inputs: Counter[str] = field(default_factory=Counter)  # by target
    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)  # by target and reason
    slowest: dict[str, float] = field(default_factory=dict)  # seconds of processor time, by target
    grown: int = 0  # bytes of memory at the peak, beyond what the first inputs needed


def fuzz(
    targets: Sequence[Target],
    inputs: int,
    seed: int,
    say: Callable[[int], None] = lambda done: None,
) -> Tally:
    """Raises Broken at the first input that ends in anything but a value or a refusal, takes long, or makes us grow."""
    tally, rng = Tally(), random.Random(seed)
    turns = [target for target in targets for _ in range(target.share)]
    start = 0
    for i in range(inputs):
        target = turns[i % len(turns)]
        one = random.Random(rng.getrandbits(64))
        data = mutated(one.choice(target.samples), target.samples, one, values=target.values)
        run(target, data, tally)
        if i == WARM_INPUTS * len(turns):
            start = peak_bytes()
        if start and not i % 100:
            check_growth(tally, start, target, data)
            say(i + 1)
    if start:
        check_growth(tally, start, targets[-1], b"")
    return tally


def run(target: Target, data: bytes, tally: Tally) -> None:
    tally.inputs[target.name] += 1
    began = time.process_time()
    try:
        target.parse(data)
        tally.accepted[target.name] += 1
    except ALLOWED as refusal:
        tally.refused[target.name, reason(refusal)] += 1
    except BaseException as error:
        raise Broken(f"{target.name}: {report(data)}\n{''.join(traceback.format_exception(error))}") from error
    taken = time.process_time() - began
    tally.slowest[target.name] = max(taken, tally.slowest.get(target.name, 0.0))
    if taken > target.seconds:
        raise Broken(f"{target.name}: {taken:.1f} s of processor time for {report(data)}")


def reason(refusal: BaseException) -> str:
    """A short word for counting: of a Refused its own, of a UsageError its kind."""
    return getattr(refusal, "reason", "") or type(refusal).__name__


def check_growth(tally: Tally, start: int, target: Target, data: bytes) -> None:
    tally.grown = max(tally.grown, peak_bytes() - start)
    if tally.grown > GROWTH_MAX:
        raise Broken(f"{tally.grown / 1e6:,.0f} MB more than at the start, seen at {target.name}: {report(data)}")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(data: bytes) -> str:
    return f"{len(data):,} bytes {data[:300].hex()}{' ...' if len(data) > 300 else ''}"
