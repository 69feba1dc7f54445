"""Every record that comes or goes passes here: hivemind's validator interface around `check_record`."""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from protocol.errors import Refused
from protocol.swarm.records import SIGNATURE_BYTES, KeySpace, check_record, sign_record
from protocol.trust.identity import Identity

VERDICTS_MAX = 50_000  # 16 bytes each


class RecordValidator:
    """Judges, signs and strips records, and counts refusals by reason."""

    def __init__(self, identity: Identity, space: KeySpace, clock: Callable[[], float]):
        self.identity, self.space, self.clock = identity, space, clock
        self.refused: Counter[str] = Counter()
        self.offenders: dict[str, str] = {}  # reason -> what was said about the last one
        self._good: set[bytes] = set()  # records that passed: merging replicas shows us each one many times
        self._space_version = space.version

    def validate(self, record: Any) -> bool:
        """May this record be stored or believed?"""
        if self._space_version != self.space.version or len(self._good) >= VERDICTS_MAX:
            self._good.clear()
            self._space_version = self.space.version
        name = name_of(record)
        if name in self._good:
            return True
        try:
            check_record(record.key, record.subkey, record.value, record.expiration_time, self.clock(), self.space)
        except Refused as refusal:
            self.refused[refusal.reason] += 1
            self.offenders[refusal.reason] = str(refusal)[:200]
            return False
        self._good.add(name)
        return True

    def sign_value(self, record: Any) -> bytes:
        return sign_record(self.identity, record.key, record.subkey, record.value, record.expiration_time)

    def strip_value(self, record: Any) -> bytes:
        return record.value[:-SIGNATURE_BYTES]


def name_of(record: Any) -> bytes:
    """16 bytes that stand for this very record, signature and expiration included."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{len(record.subkey)} {len(record.value)} {record.expiration_time!r} ".encode())
    digest.update(record.key)
    digest.update(record.subkey)
    digest.update(record.value)
    return digest.digest()
