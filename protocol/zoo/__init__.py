"""The store's layout, and how to read and verify it; who writes it is in `coordinator.zoo`, who copies it in
`analysis.pull`.

Reading order: `catalogue` (the columns), `parquet` and `thrift` (what a catalogue file would take in memory),
`manifests` (what belongs to the zoo, and who says so), `shards` (files of weights, and matrices of
their rows), `packs` (evidence of many bundles in a file), `store` (the other files, opening a zoo), `verify` (is it
whole?), `card` (its README and its metadata for data set catalogues).
"""
