"""Admitted bundles into the zoo: `files` (shards and their layout), `merge` (small parts into large ones, and bundles
out again), `networks` (checks and files of new ones), `garbage` (what belongs to the zoo, and what may go), `writer`
(publishes a manifest), `press` (proves bundles and has them written, in a process of its own), `curator` (from the
ledger to the press).
"""
