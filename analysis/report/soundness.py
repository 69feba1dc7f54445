"""What is wrong with a zoo's files, in sentences for the page: a number about damaged weights looks like any other."""

from protocol.errors import shown
from protocol.zoo.manifests import UNSIGNED
from protocol.zoo.store import Store
from protocol.zoo.verify import damaged_files

HASHED_BYTES_MAX = 4_000_000_000  # 10 s or less; a larger zoo is left to `audit`
NAMED_MAX = 3


def soundness(store: Store) -> list[str]:
    """Nothing for a zoo that is signed and whole. Every file but single evidence is hashed, once a report."""
    manifest, said = store.manifest, []
    if store.passed_over:
        count = len(store.passed_over)
        said.append(f"This is manifest {manifest.number}; {count} newer cannot be read, so networks may be missing.")
    if not manifest.organizer:
        said.append(f"This is {UNSIGNED}: nobody vouches for what it holds.")
    size = sum(ref.bytes for ref in (*manifest.shards, *manifest.catalogue, *manifest.data, *manifest.packs))
    if size > HASHED_BYTES_MAX:
        said.append(f"The files were not verified, being {size / 1e9:.0f} GB; `zooswarm audit` hashes them.")
    elif damaged := damaged_files(store):
        names = ", ".join(damaged[:NAMED_MAX]) + (", ..." if len(damaged) > NAMED_MAX else "")
        said.append(f"{len(damaged)} files are damaged ({names}); `zooswarm pull` brings sound ones.")
    if taken_back := sum(retraction.networks for retraction in manifest.retracted):
        reason = shown(manifest.retracted[-1].reason, 120)
        said.append(f"The organizer took {taken_back:,} networks back, which are left out here; the last: {reason}.")
    return said
