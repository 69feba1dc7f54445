"""What goes out: bundles into the zoo, its tidying, what the DHT is told. Times are seconds since 1970."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PUBLISH_SECONDS = 2.0  # at most this often, so that many bundles share a manifest; at once when a campaign is complete
BUNDLES_MAX = 128  # in one publish
WEIGHTS_BYTES_MAX = 256 << 20  # in one publish, and one bundle more: they are in memory together
TIDY_SECONDS = 3600.0  # looking for garbage reads the catalogues of a day's manifests
UNKNOWN = -1  # what the DHT has: of an earlier run, or of a store that failed and may have arrived all the same


@dataclass(frozen=True, slots=True)
class AdmittedBundle:
    """A bundle that is not in the zoo yet."""

    result: bytes
    campaign_complete: bool


def batches_due(
    waiting: Sequence[AdmittedBundle], now: float, published_at: float, *, force: bool = False
) -> list[tuple[bytes, ...]]:
    """Which results to publish now, in batches of one manifest each; none when it is too early."""
    urgent = force or any(bundle.campaign_complete for bundle in waiting)
    if not urgent and 0 <= now - published_at < PUBLISH_SECONDS:
        return []
    digests = tuple(bundle.result for bundle in waiting)
    return [digests[begin : begin + BUNDLES_MAX] for begin in range(0, len(digests), BUNDLES_MAX)]


def tidying_due(now: float, tidied_at: float) -> bool:
    return not 0 <= now - tidied_at < TIDY_SECONDS


def shards_to_announce(announced: Mapping[int, int], done: Mapping[int, int]) -> dict[int, int]:
    """{shard: bits} that the DHT does not have yet. Both maps leave out shards without a bit.

    A bit that is not done any more is taken back: its assignment is free again.
    """
    return {
        shard: done.get(shard, 0)
        for shard in sorted({*announced, *done})
        if announced.get(shard, 0) != done.get(shard, 0)
    }
