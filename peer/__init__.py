"""The volunteer: join, claim, train, commit, open, check others, hand in.

- `state`: everything that is decided, as values: events in, actions out
- `storage`: the volunteer's directory
- `computer`: what the computer is doing, what its person wishes, and what is set on it
- `trainer`: the training process and its handle
- `session`: talking to one coordinator and to the swarm
- `daemon`: the loop between them; `progress`: what a person sees
- `join`: the verb, from an address to a running volunteer
- `local_training`: a recipe tried without a swarm
- `cli`: the verbs `join`, `train`, `identity`
"""
