"""Honest comparisons: `splits` (what may not be on both sides), `classify`, `auc`, `intervals`."""
