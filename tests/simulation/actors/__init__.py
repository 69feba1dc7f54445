"""Who acts in the simulated world.

Reading order: `liars` (functions on boundaries), `grinding`; the volunteer: `trainer`, `calls`, `host`; the organizer:
`ledger`, `loads`, `uploads`, `inbox`, `refereeing`, `auditing`, `organizer`; `crowds` (attackers with many keys).
"""
