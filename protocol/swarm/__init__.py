"""How hosts find each other and share out the work, without a server that hands it out.

Reading order: `records` (what stands in the DHT), `claim_rules` (who holds an assignment: pure), `claimer` (claims,
leases and the done board over any node), `clock`, `addresses`, `validator` (which records a node keeps),
`hivemind_parts` (what is taken of hivemind, without torch), `hivemind_patches`, `p2p` (the libp2p daemon), `dht`
(hivemind's node), `node` (what volunteers and coordinators hold).
"""
