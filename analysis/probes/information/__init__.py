"""How many bits of a task does a network know? Information transfer L_IT by prequential coding.

After Zhang, Li, Dou, Wu (arXiv 2009.07624), whose text could not be read: the formulas are ours, consistent with its
abstract. Reading order: `codes` (bits of one block of targets), `retrain` (the exact engine from any start, on any
part of the data), `lengths` (code lengths of many starts), `transfer` (what they say of networks), `probe`,
`summary` (its rows by class).
"""
