"""Read a zoo and nothing else: tables, matrices, pictures, one page about it all.

    from analysis import open_zoo
    zoo = open_zoo("zoo/")
    weights_NP = zoo.weights(where="class = 'parity'")

Reading order: `zoo` (tables and matrices), `modules` (PyTorch modules), `features`, `geometry` (maps, distances),
`classify` (is the class in the weights?), `curves` (training), `plots` (draws tables), `report` (the page).

Methods on populations (docs/analyses.md): `splits` (what may not be on both sides), `symmetry_rules` (what may be
changed), `symmetry`, `matching`, `chains`, `functions` (what networks compute), `similarity`, `testing`, `auc`,
`clusters`, `properties`, `trojans`, `neighbours`, `shards` (Dask), `trajectories`; on whole populations: `cohorts`
(trained here or read), `targets`, `probing`, `intervals`, `populations` (what classes are to each other), `maps`,
`groupings`, `paths`. Their page: `report`, `report_section` (what a section is), `report_people` (which networks), the
sections in `report_maps`, `report_classes`, `report_changes`, `report_training`, `report_paths`; pictures
`plots_population`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.zoo import Zoo, open_zoo

__all__ = ["Zoo", "open_zoo"]


def __getattr__(name: str) -> object:
    # Late, so that the command line answers before pyarrow and DuckDB load.
    if name in __all__:
        import analysis.zoo

        return getattr(analysis.zoo, name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
