"""The organizer's side: campaigns in, checked networks out.

Reading order: `referee` (what should happen: pure), `tables` and `ledger` (what is known, durable), `entries` (every
change to it), `casefiles` (one result with all that follows from it), `beacon` and `blobs` (secrets and bytes on
disk), `intake` (messages of other hosts), `inbox` (what they get back), `bench` (acts on the referee's rulings),
`checks` (the organizer's own replays), `curator` (ledger to zoo), `status`, `service` (gRPC), `host` (wires it all),
`cli` (the verbs `host`, `seed`, `status`, `control`).
"""
