"""The training process: `worker` (runs in its own process), `process` (the handle that its parent holds)."""
