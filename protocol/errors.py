"""What can go wrong, in three kinds: the user's input, another host's bytes, and ourselves.

A `UsageError` is shown as one line and exits with 2. A `Refused` is a message or a blob of another host that we do
not accept: it is counted and named, never raised past the edge where the bytes came in.
"""


class UsageError(Exception):
    """A person gave us something we cannot use; the message names the thing and the mend, in one line."""


class Refused(Exception):
    """Bytes from another host break the protocol. `reason` is a short stable word for counting; str() is for people."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
