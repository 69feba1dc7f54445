"""How a stranger's work is accepted. Reading order is the order in which it happens.

`identity` and `envelope` (who says so), `roster` (who may check), `messages` (what may be said), `commitment` (all
results, before anything is asked), `challenge` (what is asked and of whom, drawn afterwards), `openings` (the answer),
`spot_check` (training a segment again), `verdict` (did it match?), `admission` (is it enough?), `evidence` (the whole
story, checkable by anybody later).
Aside: `allowance` (how much a host may claim), `stamp` (what a new key works for), `ticket` (whom the
organizer lets in).
"""
