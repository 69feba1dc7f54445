"""The same bits in C, compiled on this machine: `build` (which compiler and flags), `orders` (of the epochs, kept from
call to call), `structs` (recipes and networks as the kernels read them), `engine` (calls it on threads).
"""
