"""Draw tables that they are given: every function takes numbers and returns a Figure, and reads nothing.

Reading order: `style` (colours, `svg`), `maps`, `comparisons` (numbers with intervals), `learning`, `probes`,
`surrogates`.
"""
