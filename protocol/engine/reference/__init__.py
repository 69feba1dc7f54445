"""The specification in NumPy: the order of every sum, readable and slow (docs/exact_arithmetic.md).

Reading order: `arithmetic` (the order of a sum), `passes` and `passes_image` (layers forward and back), `losses`,
`engine` (a training step).
"""
