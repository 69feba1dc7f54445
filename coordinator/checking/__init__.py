"""From a commitment to a verdict: `beacon` and `blobs` (secrets and bytes on disk), `cases` (one result with all that
follows from it), `handlers` (messages of other hosts), `own_checks` (the organizer's replays), `referee_loop` (acts on
the referee's rulings).
"""
