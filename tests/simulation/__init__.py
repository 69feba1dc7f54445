"""A whole swarm in one process and one thread, decided by a seed: the real rules in a simulated world.

What is real: `peer.state`, `protocol.swarm.claimer` and its rules, `coordinator.policy`, and all of `protocol.trust`
but the mathematics of signatures. What is simulated: time, network, DHT, disks, training, and people who lie.

Reading order: `environment` (time, network, DHT, disks, training), `actors` (volunteers, liars, the organizer),
`options` (what a seed decides), `adversaries` (who may be put among the hosts), `rules` (what may be replaced, and
broken rules), `faults` (what goes wrong), `chance` and `checkers` (what must never be, and what must come to pass),
`world` (all of it, and `simulate`), `table` (what happened); `rivals` (our trust beside BOINC's, bundle by bundle).
"""
