"""Sockets and threads.

Reading order: `directory` (everything durable, opened once), `handlers` (messages of other hosts), `commands` (the
organizer's), `inbox` (what hosts get back), `rankings` and `status`, `zoo_files` (the zoo to pullers), `coordinator`
(all parts together, without sockets), `calls` (what calls share: refusals, troubles), `doors` (what strangers may keep
waiting), `service` (gRPC), `serving` (it is started), `swarm_publisher` (the DHT's manifests and done boards), `page`
(for browsers), `console`, `running` (what belongs to a host that runs), `main` (the verb `host`). `doctor` (the verb
`doctor`: is a directory sound?). `keeping` (the verbs `backup` and `restore`). `watch` (alerts, numbers for
Prometheus).
"""
