"""What the organizer tells the DHT: which assignments are done or being judged, as bitmaps by shard."""

from collections.abc import Mapping

UNKNOWN = -1  # what the DHT has: of an earlier run, or of a store that failed and may have arrived all the same


def shards_to_announce(announced: Mapping[int, int], done: Mapping[int, int]) -> dict[int, int]:
    """{shard: bits} that the DHT does not have yet. Both maps leave out shards without a bit.

    A bit that is not done any more is taken back: its assignment is free again.
    """
    return {
        shard: done.get(shard, 0)
        for shard in sorted({*announced, *done})
        if announced.get(shard, 0) != done.get(shard, 0)
    }
