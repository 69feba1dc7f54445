"""What is asked for, as data: never code, always bounded, named by the digest of its canonical form.

Reading order: `layers` (what a network is made of), `recipe` (task, network, training), `sweep` (a grid of recipes),
`campaign` (which recipes and seeds, cut into assignments, and the policy they are checked by).
"""
