"""The volunteer's daemon: join, claim, train, commit, open, check others, hand in.

Reading order: `home` (what is on disk), `bundle` (one assignment's files), `worker` (the training process), `crew`
(its handle), `client` (gRPC), `duties` (what a heartbeat's reply asks of us), `daemon` (the loop), `progress` (what
a person sees), `train` (a recipe tried without a swarm), `cli`.
"""
