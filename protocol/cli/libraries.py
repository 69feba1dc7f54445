"""What libraries are told before they are loaded."""

import os


def multiply_alone() -> None:
    """For programs that multiply no large matrices, before NumPy is imported; what they start inherits it.

    NumPy's BLAS starts a thread a core as it is loaded, and each waits busily for work: 0.1 s of CPU time a process.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
