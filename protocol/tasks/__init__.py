"""What networks learn from: a task's parameters in, the same arrays on every machine.

Reading order: `fields` (what records are parsed with), `kinds` (every kind of task and its controlled changes),
`philox` (chance as a function of a key), `machines`, `automata`, `regression` (what makes the samples),
`dataset_names`, `datasets` (real data in a container of fixed layout), `data` (the arrays), `generate` (task to
arrays).
"""
