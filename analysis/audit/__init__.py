"""Is a zoo what it says? Nothing in it is believed, and what was not proved is said.

Reading order: `check` (the levels), `replays` (which networks are trained again, and whether they agree), `telling`
(what was found, in lines, and how much could still be fake).
"""
