"""Admitted bundles into the zoo: `files` (shards and their layout), `merge` (small parts into large ones), `writer`
(publishes a manifest), `curator` (from the ledger to the writer).
"""
