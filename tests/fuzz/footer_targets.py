"""A catalogue file's footer and page headers: its own reader of them, and a sound file with another footer."""

from collections.abc import Callable
from pathlib import Path

from support.zoos import ADDER, ORGANIZER, PARITY, network, publish

from coordinator.zoo.writer import ZooWriter
from fuzz.targets import Target
from fuzz.workbench import at, folder
from protocol.errors import Refused
from protocol.zoo.catalogue import read_part
from protocol.zoo.parquet import check_part
from protocol.zoo.store import open_store, part_path
from protocol.zoo.thrift import Illegal, read_struct

DOUBLES = b"\x19\x37" + bytes(24) + b"\x00"  # field 1: a list of three
MAGIC, HEADER = b"PAR1", 64  # bytes of a page's header, or more


def footer_targets() -> list[Target]:
    path = folder() / "footers"
    publish(
        ZooWriter(path, ORGANIZER, clock=lambda: 1_800_000_000.0),
        *[network(PARITY, seed) for seed in range(3)],
        *[network(ADDER, seed) for seed in range(2)],
    )
    part = open_store(path).manifest.catalogue[0]
    file = part_path(path, part.digest).read_bytes()
    length = int.from_bytes(file[-8:-4], "little")
    body, footer = file[: -8 - length], file[-8 - length : -8]
    header = body[len(MAGIC) : len(MAGIC) + HEADER]
    return [
        Target(name="thrift", parse=thrift, samples=(footer, header, DOUBLES), share=2),
        Target(name="footer", parse=with_footer(body, check_part), samples=(footer,), share=3),
        Target(name="footer read", parse=with_footer(body, read_part), samples=(footer,)),
        Target(name="page header", parse=with_header(file), samples=(header,), share=2),
    ]


def thrift(data: bytes) -> object:
    try:
        return read_struct(data)
    except Illegal as error:
        raise Refused("thrift", str(error)) from None


def with_footer(body: bytes, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """It says itself how long it is."""
    return lambda footer: read(at("footer.parquet", body + footer + len(footer).to_bytes(4, "little") + MAGIC))


def with_header(file: bytes) -> Callable[[bytes], object]:
    """In the place of the first page's, nothing else moved."""
    begin = len(MAGIC)

    def parse(header: bytes) -> object:
        header = header[:HEADER]
        return check_part(at("header.parquet", file[:begin] + header + file[begin + len(header) :]))

    return parse
