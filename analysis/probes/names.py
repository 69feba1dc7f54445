"""Which probes there are, by name: all that `--help` needs to know."""

from typing import NamedTuple


class Listed(NamedTuple):
    place: str  # `module:Class`
    line: str  # for --help


PROBES: dict[str, Listed] = {
    "corruption": Listed("analysis.probes.corruption.probe:Corruption", "how small a change of the weights does harm"),
}
