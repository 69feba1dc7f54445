"""What one trained network gives to another task: the Parameter Transfer Unit (Zhang, Zhang, Yang; PAKDD 2019) and what
it is compared with. The paper's equations could not be read; the gates here are ours (docs/probes.md).

Reading order: `gates` (two streams and what joins them), `methods` (scratch, freeze-k, fine-tune, cross-stitch, ...),
`fitting` (the same budget for all), `pairs` (which networks), `probe` (rows), `summary` (the table of the page).
"""
