"""A probe with planted answers, and one that makes a mistake; children import it by its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.probes.contract import Probe, ProbeSettings, units_of_networks
from protocol.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class SizesSettings(ProbeSettings):
    probe: ClassVar[str] = "support.probes.sizes:Sizes"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"power": (1, np.inf), "only": (0, np.inf)}
    may_be_empty: ClassVar[frozenset[str]] = frozenset({"only"})
    power: float = 2.0
    draws: int = 1
    only: tuple[int, ...] = ()  # seeds; of others it gives no rows
    wrong: bool = False  # names a column that is not declared


class Sizes(Probe[SizesSettings]):
    name, version, title, settings = "sizes", 1, "How large are the weights?", SizesSettings
    columns: ClassVar[Mapping[str, str]] = {"norm": "length of all weights", "drawn": "chance, 0 to 1", "held": "loss"}

    def units(self, table, recipes, settings):
        return units_of_networks(table)

    def rows(self, inputs, settings):
        if settings.only and inputs.seeds[0] not in settings.only:
            raise UsageError("not one of these seeds")
        norm = np.linalg.norm(inputs.weights[0].astype(np.float64), settings.power)
        told = {"network": inputs.networks[0], "norm": norm}
        rows = [told | {"drawn": inputs.rng(str(i)).random()} for i in range(settings.draws)]
        return [row | {"undeclared": 1} for row in rows] if settings.wrong else rows
