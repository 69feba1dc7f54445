"""The same bits in C, compiled on this machine: `build` (which compiler and flags), `structs` (a recipe as the kernels
read it), `engine` (calls it on threads).
"""
