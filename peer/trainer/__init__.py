"""The training process: `messages` (what goes in and comes out), `worker` (runs in its own process), `process` (the
handle that its parent holds).
"""
