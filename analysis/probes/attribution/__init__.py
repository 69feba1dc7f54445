"""Do attributions see what a network learnt? Integrated gradients of trained and of randomized networks (Sundararajan
and Taly, arXiv 1806.04205: its abstract and its authors' code read, its networks and numbers not).

Reading order: `gradients` (the attributions), `randomize` (networks that know less), `agreement` (four correlations),
`probe` (rows), `summary` (the tables of the page).
"""
