"""What must not be forgotten.

Reading order: `tables`, `prepared` (statements without SQLAlchemy's way around them), `damage` (what it is, and what
only is in the way), `database` (one writer, durable before anything is answered), `facts` (what the policy wants to
know), `settlement` (stores how a result ended), `audits` (what is owed), `results` (stores what happens before),
`places` (who has an assignment, and who waits behind), `doubles` (of overlapping campaigns), `heartbeats` (who is
here), `allowances` (how much each may claim), `done` (which assignments are taken, as bitmaps), `commands` (which of
the organizer's were taken).
"""
