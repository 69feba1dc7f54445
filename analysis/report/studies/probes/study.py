"""What sections of probes share: they are drawn when the probe left rows, and say how these were made."""

import shlex
from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from analysis.catalogue.probe_tables import origin_of, probe_digest, read_probe
from analysis.probes.registry import probe_named
from analysis.report.selection import Selection
from analysis.report.study import Study

Result = TypeVar("Result")


class ProbeStudy(Study[Result], ABC):
    """A study whose snippet starts from `zoo.probe(NAME, table, ...)`."""

    probe: ClassVar[str]
    classes = 0  # it looks at all networks, of any shape

    def ready(self, there: list[str]) -> bool:
        """Whether its probes are among those that left rows."""
        return self.probe in there

    def stamp(self, selection: Selection) -> str:
        return probe_digest(selection.zoo.store.path, self.probe)

    def made(self, selection: Selection) -> str:
        """A sentence: the command that made the rows, and what it skipped."""
        origin = origin_of(read_probe(selection.zoo.store.path, self.probe))
        if origin is None:
            return "Nobody said how these rows were made."
        chosen = changed_settings(self.probe, origin.settings)
        where = [f"--where {quoted(origin.where)}"] if origin.where else []
        parts = ["zooswarm probe PATH --probe", self.probe, *where, *(f"--set {k}={v}" for k, v in chosen.items())]
        command = " ".join(parts)
        skipped = sum(origin.skipped.values())
        also = f" {skipped:,} units gave no rows: {'; '.join(sorted(origin.skipped)[:3])}." if skipped else ""
        return f"Rows: {command} (version {origin.version}).{also}"


def quoted(text: str) -> str:
    """`text` as one word for a shell; between double quotes where that is enough, as SQL is full of single ones."""
    double = "'" in text and not set(text) & set('"$`\\!')
    return f'"{text}"' if double else shlex.quote(text)


def changed_settings(probe: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings that are not the default, as `--set` reads them."""
    default = probe_named(probe).settings()
    told = {name: listed(value) for name, value in settings.items()}
    return {name: value for name, value in told.items() if value != listed(getattr(default, name, None))}


def listed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
