"""What a catalogue file would become in memory, known before a value of it is read. `check_part` first.

A Parquet file of 400 kB can hold gigabytes: a page that unpacks to zeros, a dictionary whose one long text is meant a
million times, a run of a billion equal numbers. The footer need not say so, so every page's own header is read too.
What may be in it is what this program writes: plain and dictionary pages, Zstandard or nothing. Footer and headers are
read here (`thrift`) because pyarrow's own objects for them end the process on some damaged ones.
"""

import mmap
import struct
from functools import lru_cache
from pathlib import Path

from protocol.errors import DamageError, FileError
from protocol.zoo.manifests import ROW_BYTES_MIN
from protocol.zoo.thrift import Fields, Illegal, read_struct

FOOTER_BYTES_MAX = 1024 * 1024  # 60 columns of a row group take 26 kB; a part has a group for each 100,000 rows
COLUMNS_MAX = 512
GROUPS_MAX = 1024
PAGES_MAX = 100_000  # of about 1 MB
PAGE_BYTES_MAX = 64 * 1024 * 1024
HEADER_BYTES_MAX = 64 * 1024  # of a page; statistics of two long texts
TEXT_BYTES_MAX = 64 * 1024  # a recipe's layers as JSON; a recipe is no longer
NAME_BYTES_MAX = 256  # a digest, a host, a name
MEMORY_MIN = 4 * 1024 * 1024  # what any part may take
MEMORY_MAX = 2 * 1024 * 1024 * 1024  # half a million networks
RATIO_MAX = 512  # memory to length: real ones have 8; a thousand rows that repeat 64 kB of layers have 400
WORDY = (b"task.", b"network.", b"training.")  # fields of a recipe: lists and records are there as JSON
# Numbers of the format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
LENGTH = struct.Struct("<I")  # before each text of a dictionary
TEXTS = (6, 7)  # byte arrays, of any or of one length
UNCOMPRESSED, ZSTD = 0, 6
DATA_PAGE, DICTIONARY_PAGE = 0, 2
PLAIN, OLD_DICTIONARY, RLE, DICTIONARY = 0, 2, 3, 8


def check_part(path: Path, rows: int | None = None) -> None:
    """Raises UsageError, naming the file, unless reading it takes a bounded multiple of its length.

    `rows`: how many the manifest says it has.
    """
    try:
        found = path.stat()
        counted = _checked(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise FileError(f"{path}: cannot read: {error.strerror or error}; fetch the zoo again") from None
    except Illegal as error:
        raise DamageError(f"{path}: damaged catalogue file, or one made to hurt: {error}") from None
    if rows is not None and counted != rows:
        raise DamageError(f"{path}: damaged catalogue file: {counted:,} rows where the manifest says {rows:,}")


@lru_cache(maxsize=256)
def _checked(path: Path, size: int, _modified: int) -> int:
    """The file's rows. Raises Illegal, OSError."""
    if size < 12:
        raise Illegal("too short")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        length = int.from_bytes(data[size - 8 : size - 4], "little")
        if data[size - 4 :] != b"PAR1" or length > min(size - 12, FOOTER_BYTES_MAX):
            raise Illegal("its footer is missing or too long")
        footer, _ = read_struct(data[size - 8 - length : size - 8])
        rows, groups, leaves = footer.number(3), footer.structs(4), _leaves(footer)
        counts = [group.number(3) for group in groups]
        if leaves > COLUMNS_MAX or len(groups) > GROUPS_MAX:
            raise Illegal("more columns or row groups than a catalogue has")
        if sum(counts) != rows or min([0, *counts]) < 0:
            raise Illegal("its row groups do not add up")
        if rows * ROW_BYTES_MIN > size:
            raise Illegal(f"{rows:,} rows do not go into {size:,} bytes")
        budget = _Budget(min(max(MEMORY_MIN, RATIO_MAX * size), MEMORY_MAX))
        for group in groups:
            columns = group.structs(1)
            if len(columns) != leaves:
                raise Illegal("a row group without some columns")
            for column in columns:
                if 1 in column.values:
                    raise Illegal("a column lies in another file")
                _weigh(column.struct(3), data, budget)
        return rows


def _leaves(footer: Fields) -> int:
    """Columns of the schema: its elements without children, the root left out. Encryption is refused."""
    if 8 in footer.values:
        raise Illegal("encrypted")
    return sum(not element.values.get(5) for element in footer.structs(2)[1:])


class _Budget:
    """Memory that is left, and pages."""

    def __init__(self, left: int):
        self.left, self.whole, self.pages = left, left, PAGES_MAX

    def spend(self, memory: int) -> None:
        self.left -= memory
        self.pages -= 1
        if self.left < 0:
            raise Illegal(f"it would take more than {self.whole:,} bytes of memory")
        if self.pages < 0:
            raise Illegal("more pages than a catalogue has")


def _weigh(column: Fields, data: mmap.mmap, budget: _Budget) -> None:
    """Spend what the values of one column of one row group take, texts written out."""
    codec, is_text = column.number(4), column.number(1) in TEXTS
    if codec not in (UNCOMPRESSED, ZSTD):
        raise Illegal(f"compressed in the way {codec}")
    name = b".".join(column.texts(3))
    limit = TEXT_BYTES_MAX if name.startswith(WORDY) else NAME_BYTES_MAX
    place, widest, values = column.number(9), 8, 0
    if 11 in column.values and 0 < column.number(11) < place:
        place = column.number(11)
    end = place + column.number(7)
    if not 0 < place <= end <= len(data):
        raise Illegal("a column lies outside of the file")
    while place < end:
        header, used = read_struct(data[place : min(end, place + HEADER_BYTES_MAX)])
        kind, unpacked, packed = header.number(1), header.number(2), header.number(3)
        begin, place = place + used, place + used + packed
        if not 0 <= unpacked <= PAGE_BYTES_MAX or packed < 0 or place > end:
            raise Illegal(f"a page of {unpacked:,} bytes")
        if kind not in (DATA_PAGE, DICTIONARY_PAGE):
            raise Illegal(f"a page of kind {kind}")
        told = header.struct(5 if kind == DATA_PAGE else 7)
        count, encoding = told.number(1), told.number(2)
        if count < 0 or encoding not in (PLAIN, OLD_DICTIONARY, RLE, DICTIONARY):
            raise Illegal(f"{count} values in the encoding {encoding}")
        if kind == DATA_PAGE:
            values += count
            budget.spend(unpacked + count * (8 if encoding in (PLAIN, RLE) else widest))
        else:
            budget.spend(2 * unpacked)
            if is_text:
                widest = 8 + _longest(data[begin:place], unpacked, count, codec, limit)
    if values != column.number(5):
        raise Illegal("its pages do not hold what its footer says")


def _longest(packed: bytes, unpacked: int, count: int, codec: int, limit: int) -> int:
    """Bytes of the longest text of a dictionary page. Raises Illegal: longer than `limit`."""
    if unpacked <= NAME_BYTES_MAX:
        return unpacked
    import pyarrow as pa

    try:
        page = packed if codec == UNCOMPRESSED else pa.Codec("zstd").decompress(packed, unpacked, asbytes=True)
        longest = _equally_long(page, count)
        place, left = 0, count if longest is None else 0
        longest = longest or 0
        for _ in range(left):
            (length,) = LENGTH.unpack_from(page, place)
            place += 4 + length
            if length > longest:
                longest = length
    except (pa.ArrowException, OSError, ValueError, struct.error):
        raise Illegal("a dictionary that cannot be read") from None
    if longest > limit:
        raise Illegal(f"a text of {longest:,} bytes")
    return longest


def _equally_long(page: bytes, count: int) -> int | None:
    """The length of all texts of a dictionary page if it is the same, as digests' is; else None."""
    length = int.from_bytes(page[:4], "little")
    step = 4 + length
    same = count > 0 and len(page) == count * step
    return length if same and all(page[i::step] == page[i : i + 1] * count for i in range(4)) else None
