"""How a recipe names a data set: the SHA-256 of its bytes, or the name of one that every computer can make."""

from protocol.canonical import DIGEST
from protocol.errors import RecipeError

# Pinned: a library that changes its copy is noticed, and then the data set is fetched like any other.
BUILT_IN = {"digits8x8": "63d01b63caa53b1e33b3ab57c220bfb97284db0a091331e7f6fa402f5ad9e74c"}


def digest_of(name: str) -> str:
    """A recipe's `data` -> the digest of its bytes. Raises UsageError for a name that is neither."""
    if DIGEST.fullmatch(name):
        return name
    if name in BUILT_IN:
        return BUILT_IN[name]
    raise RecipeError(f"{name[:80]!r} is no data set: write 64 hex digits, or one of {', '.join(BUILT_IN)}")
