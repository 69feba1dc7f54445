"""How far a restored beacon must skip: a link that was shown once must not be the next link again.

A result's challenge is drawn from the first link that is shown after its receipt. An old ledger counts fewer links than
were shown since it was copied, so volunteers could know the next one before they commit. The host shows a link when
somebody waits for it and the last one is `epoch_seconds` old, never faster: that bounds how many there can have been.
"""

import math
from collections.abc import Iterable

from protocol.recipes.campaign import Policy

SPARE = 100  # links: a clock that was set back lets one through each time


def skipped_to(epoch: int, since: float, now: float, epoch_seconds: Iterable[float], *, seen: int = 0) -> int:
    """How many links count as shown from now on. Times are seconds since 1970.

    `epoch`: as the copy has it; `since`: when its last link was shown, or the copy was made; `epoch_seconds`: of every
    campaign that may have run since, the default where there was none; `seen`: a number of links that is known to have
    been shown, say from the zoo.
    """
    pace = min(epoch_seconds, default=Policy().epoch_seconds)
    return max(epoch + math.ceil(max(0.0, now - since) / pace), seen) + SPARE
