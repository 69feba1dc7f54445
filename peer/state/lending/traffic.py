"""No more bytes over the network than allowed: a bucket that fills with time and that every message empties.

Times are seconds on one clock, sizes are bytes, rates are bytes a second.
"""

from dataclasses import dataclass, replace

BURST_SECONDS = 1.0  # what may pass at once after a silence
TRANSFER_SECONDS = 100.0  # an upload or download has to be over by then; hosts cut off later


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    rate: float
    level: float  # what may pass now; below 0 is what has to be waited for
    at: float  # when that was

    @classmethod
    def full(cls, rate: float, now: float) -> "Bucket":
        return cls(rate=rate, level=rate * BURST_SECONDS, at=now)


def spend(bucket: Bucket, size: int, now: float) -> tuple[Bucket, float]:
    """A message of `size` passes. (The bucket after it, seconds until it may pass, or until the next may.)"""
    filled = min(bucket.rate * BURST_SECONDS, bucket.level + bucket.rate * (now - bucket.at))
    after = replace(bucket, level=filled - size, at=now)
    return after, max(0.0, -after.level / bucket.rate)
