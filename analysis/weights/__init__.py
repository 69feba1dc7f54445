"""Numbers about weights. Reading order: `features`, `geometry` (maps, distances), `growing_map` (of a zoo that grows),
`symmetry_rules` (what may be changed without changing the function), `symmetry`, `matching`, `chains`, `forward` (what
networks compute), `similarity`, `neighbours`, `dask_arrays` (more than one machine), `modules` (a network as a PyTorch
module), `pairs` (weights with labels, for PyTorch and Hugging Face).
"""
