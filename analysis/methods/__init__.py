"""One question a file; docs/analyses.md names each question's source.

- what is in the weights: `layer_tests`, `retrieval`, `clusters`, `groupings`, `changes`, `properties`, `targets`,
  `probing`, `trojans`, `maps`
- how they came about: `curves`, `trajectories`, `cohorts`
- what classes are to each other: `families`
"""
