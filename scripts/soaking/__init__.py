"""A swarm of real processes that is hurt on purpose. Started by scripts/soak.

Reading order: `link` (a cable that can be pulled), `recipe` (what is trained), `swarm` (host and volunteers as
processes), `faults` (what is done to them, drawn from a seed), `fakes` (a bundle that was never trained), `ring`
(colluding keys that vouch for each other's fakes), `nuisances` (squatters, silent calls, replayed messages), `report`
(what came of it).
"""
