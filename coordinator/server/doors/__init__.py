"""Doors that stay open: what strangers may keep waiting, and for how long.

Reading order: `limits` (every number, and the rule of progress), `turns` (whose turn is next), `callers` (which calls
are open, and which one is cut off), `desk` (first contact: stamps, and which heartbeats are new), `places` (for what
holds memory), `workers` (threads behind the turns), `call` (one call, while it is answered), `door` (the gRPC server on
its own loop).
"""
