"""The volunteer: join, claim, train, commit, open, check others, hand in.

- `storage`: the volunteer's directory
- `trainer`: the training process and its handle
- `session`: talking to one coordinator
- `state`: what a volunteer holds and what comes next
- `daemon`: the loop; `join`: the verb; `progress`: what a person sees
- `local_training`: a recipe tried without a swarm
- `cli`: the verbs `join`, `train`
"""
