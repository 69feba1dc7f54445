"""The organizer's side: campaigns in, checked networks out.

- `policy`: what should happen; no clock, no disk
- `ledger`: what must not be forgotten, in SQL
- `datasets`: the organizer's data sets
- `checking`: from a commitment to a verdict
- `zoo`: admitted bundles into the zoo
- `server`: sockets and threads
- `field`: what it was like with volunteers, as a page
- `estimate`: what a campaign will cost, before it is seeded
- `directories`, `client`, `dataset_verbs`, `cli`: the verbs `host`, `seed`, `status`, `control`, `data`, ...
"""
