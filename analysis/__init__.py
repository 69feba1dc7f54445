"""Read a zoo and nothing else: tables, matrices, pictures, one page about it all.

    from analysis import open_zoo
    zoo = open_zoo("zoo/")
    weights_NP = zoo.weights(where="class = 'parity'")

- `pull`: copying a zoo; `audit`: is its evidence sound?
- `zoo`: tables and matrices; `catalogue`: which rows
- `weights`: numbers about weights, networks as PyTorch modules
- `statistics`: honest comparisons
- `methods`: one question a file (docs/analyses.md)
- `probes`: what one can know about each network (docs/probes.md)
- `plots`: draw tables
- `report`: the page; `cli`: the verbs `pull`, `report`, `probe`, `audit`, `map`
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.zoo import Zoo, open_zoo

__all__ = ["Zoo", "open_zoo"]


def __getattr__(name: str) -> object:
    # Late, so that the command line answers before pyarrow and DuckDB load.
    if name in __all__:
        try:
            import analysis.zoo
        except ModuleNotFoundError as error:
            from protocol.cli.libraries import OURS, absent

            if not error.name or error.name.partition(".")[0] in OURS:
                raise
            raise ModuleNotFoundError(absent(error.name, "analysis"), name=error.name) from None
        return getattr(analysis.zoo, name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
