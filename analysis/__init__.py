"""Read a zoo and nothing else: tables, matrices, pictures, one page about it all.

    from analysis import open_zoo, plot
    zoo = open_zoo("zoo/")
    plot(zoo).savefig("zoo.png")

- `pull`: copying a zoo; `audit`: is its evidence sound?
- `zoo`: tables and matrices; `catalogue`: which rows
- `weights`: numbers about weights, networks as PyTorch modules
- `statistics`: honest comparisons
- `methods`: one question a file (docs/analyses.md)
- `probes`: what one can know about each network (docs/probes.md)
- `plots`: draw tables
- `report`: the page; `cli`: the verbs `pull`, `report`, `probe`, `audit`, `map`
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.report.picture import plot
    from analysis.zoo import Zoo, open_zoo

__all__ = ["Zoo", "open_zoo", "plot"]
PLACES = {"Zoo": "analysis.zoo", "open_zoo": "analysis.zoo", "plot": "analysis.report.picture"}


def __getattr__(name: str) -> object:
    # Late, so that the command line answers before pyarrow and DuckDB load.
    if name in PLACES:
        try:
            return getattr(import_module(PLACES[name]), name)
        except ModuleNotFoundError as error:
            from protocol.cli.libraries import OURS, absent

            if not error.name or error.name.partition(".")[0] in OURS:
                raise
            raise ModuleNotFoundError(absent(error.name, "analysis"), name=error.name) from None
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
