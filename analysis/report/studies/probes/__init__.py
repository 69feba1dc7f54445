"""Sections of the page from rows that probes left. `study` is what they share; then one a probe:

- `across`: all of them together
- `attribution`
- `corruption`
- `information`
- `quantitative`
- `surrogates` (`gp_spectrum`, `gp_depth`), `surrogate_uses` (`gp_influence`, `gp_ranking`)
- `transfer`
- `verification`
"""
