"""Ways to trust strangers, against the same adversaries: ours beside BOINC's, at the level of bundles.

No network, no training: a bundle is the set of its false cells, and what happens to it is decided by the real policy.
Thousands of bundles a second, so that rare luck shows.

Reading order: `cases` (who takes part), `contest` (one run), `boinc` (a quorum of two, adaptive replication), `ours`
(the real `coordinator.policy` and `protocol.trust`), `scores` (the table). `test_levels` ties this level to whole
swarms.
"""
