"""A network as a chain of blocks: `operations`, `chain`, `behind` (what of it reaches some values), then `unroll` and
`build`, which make one of a recipe."""
