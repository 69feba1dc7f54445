"""The C and CUDA source of the engine: no Python here; `native` and `cuda` compile it on the machine it runs on."""
