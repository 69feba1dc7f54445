"""A network as a chain of blocks: `operations`, `chain`, then `unroll` and `build`, which make one of a recipe."""
