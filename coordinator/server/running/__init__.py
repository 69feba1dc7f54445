"""What belongs to a host that runs, beside the coordinator itself.

Reading order: `addresses` (where it listens, and under which address others reach it), `node` (its node in the swarm),
`loops` (its threads, each with a step that comes again and again), `interpreter` (what is set once for the process).
"""
