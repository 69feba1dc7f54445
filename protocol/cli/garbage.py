"""How seldom the interpreter looks for objects in circles.

Our long-running programs make thousands of objects a second, hardly any of them in circles, and looking through all
that imports made took 2 % of a small swarm's processor time.
"""

import gc

SELDOM = (100_000, 20, 20)  # objects more than before, then each generation's turns


def look_seldom() -> None:
    """From the beginning on: imports make objects that stay."""
    gc.set_threshold(*SELDOM)


def settle() -> None:
    """What is here by now is not looked through again."""
    look_seldom()
    gc.freeze()
