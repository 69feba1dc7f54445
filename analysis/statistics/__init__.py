"""Honest comparisons: what is measured, what chance gives, and the control that could have fooled the measure.

Reading order: `labels` (classes as numbers), `splits` (folds that do not leak), `shuffles` (labels as chance deals
them), `permutation` (p-values), `proportions` and `intervals` (95%), `classify` (class from features), `auc` (one of
two classes), `baselines` (the same of numbers that are no weights), `ranks` (rank correlations), `distances` (within
and between classes), `controls` (the same measure on what must show nothing).
"""
