"""The contract: everything that crosses a border or must be the same everywhere. Each room builds on those before it.

- `errors`, `canonical`, `files`: what a refusal is; JSON and digests that are the same on every machine; writes that
  are whole or absent, locks, this user's directories
- `tasks`: what networks learn from, parameters in, the same arrays everywhere
- `recipes`: what is asked for, as data: layers, a recipe, a campaign
- `engine`: weights = train(recipe, seed), bit for bit
- `trust`: how a stranger's work is accepted: signatures, commitment, challenge, verdict, admission, evidence
- `swarm`: how hosts find each other and share out the work
- `zoo`: the store's layout, and how to read and verify it
- `rpc`: the organizer's gRPC service
- `page`: a swarm as a web page
- `cli`: the one command, `zooswarm`
"""
