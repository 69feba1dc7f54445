"""How much of the service one caller may hold, and for how long. Times are seconds."""

# A call is open before its first message has come. One that says nothing costs its caller nothing, so it is worth
# nothing: when there are too many, the eldest goes. An honest call speaks within one way of the network.
FIRST_MESSAGE_SECONDS = 10.0
SILENT_PER_CONNECTION = 16
SILENT_PER_ADDRESS = 64
SILENT_MAX = 1024

# Calls that have spoken. A hundred volunteers behind one address have one or two calls each, seldom more.
STREAMS_PER_CONNECTION = 64  # of HTTP/2; further calls wait at the caller's end
OPEN_PER_ADDRESS = 512
WAITING_MAX = 4096  # calls that wait for a thread; beyond, the caller hears "later"

# A stream that has spoken must go on: PATIENCE, and from then on at this speed, a slow telephone line's.
PATIENCE_SECONDS = 10.0
BYTES_PER_SECOND_MIN = 16 * 1024

CALL_SECONDS_MAX = 120.0  # from first to last byte; clients give up before
TRANSFER_SECONDS_MAX = 300.0  # then the peer asks for the rest
WATCH_SECONDS_MAX = 600.0  # then the watcher calls again

# Places hold memory. One address has at most half of them, and one key two: the others' uploads go on.
TRANSFERS_MAX = 16  # uploads and downloads at once: at most 64 MiB each in memory
DATA_TRANSFERS_MAX = 8  # of data sets, from disk to disk; a crowd that fetches one must not hold up results
ZOO_TRANSFERS_MAX = 8  # of the zoo's files; analysts must hold up neither results nor volunteers' data sets
PLACES_PER_KEY = 2
WAITING_FOR_PLACE_MAX = 1024
WATCHERS_MAX = 64
WATCHERS_PER_ADDRESS = 16


def patience(got: int, seconds: float) -> float:
    """How much longer a stream may take for its next message, after `got` bytes in `seconds`."""
    return PATIENCE_SECONDS + got / BYTES_PER_SECOND_MIN - seconds


# Stamps: what a key that was never here works for its first heartbeat (`protocol.trust.stamp`). 15 bits are 2^18
# hashes, a third of a second of Python.
STAMP_BITS = 15
STAMP_BITS_MORE_MAX = 8
STAMP_SECONDS = 600.0  # a challenge is good for so long
NEWCOMERS_HERE, NEWCOMERS_HERE_SECONDS = 16, 600.0  # new keys of one network that cost the plain price
NEWCOMERS_ALL, NEWCOMERS_ALL_SECONDS = 256, 60.0  # of all networks
NEWCOMERS_MAX = 4096
ADMITTED_MAX = 100_000  # keys; the longest silent ones have to bring a stamp again


def stamp_bits(base: int, here: int, everywhere: int) -> int:
    """The price of a new key's stamp: twice as much with each doubling of the new keys, of its network or of all."""
    more = (here // NEWCOMERS_HERE).bit_length() + (everywhere // NEWCOMERS_ALL).bit_length()
    return base + min(more, STAMP_BITS_MORE_MAX)
