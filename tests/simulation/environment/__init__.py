"""The simulated world, without anybody in it.

Reading order: `kernel` (time, coroutines, the trace), `network`, `dht`, `disk`, `engine` (training that is a hash),
`crypto` (signatures without their mathematics).
"""
