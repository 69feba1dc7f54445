"""The same bits in C: `flags` (sources, and the flags for each instruction set), `build` (the wheel's library, or one
compiled on this machine), `orders` (of the epochs, kept from call to call), `structs` (recipes and networks as the
kernels read them), `engine` (calls it on threads).
"""
