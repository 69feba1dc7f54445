"""How often does a property fail under random inputs? Answers with a stated error, from samples alone.

PROVERO (Baluta, Chua, Meel, Saxena; ICSE 2021, arXiv 2002.06864) and Wald's sequential test. Reading order: `stated`
(the question, an answer), `intervals` (PROVERO), `sequential` (Wald's test, what is used), `hardness` (the largest
radius that is answered yes), `samplers` (uniform balls), `properties` (what is drawn for a network), `probe`,
`summary` (its rows by class).
"""
