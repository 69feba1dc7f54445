"""Sockets and threads.

Reading order: `inbox` (what hosts get back), `status`, `zoo_files` (the zoo to pullers), `coordinator` (all parts
together), `service` (gRPC), `swarm_publisher` (the DHT's manifests and done boards), `console`, `main` (the verb
`host`).
"""
