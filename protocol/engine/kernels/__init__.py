"""The C and CUDA source of the engine: no Python here; `native` and `cuda` compile it on the machine it runs on.

`blocks/` has what a thread block of a card does in place of `lanes.h` and `rows.h`.
"""
