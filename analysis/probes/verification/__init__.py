"""Formal verification: can any input of a box change a network's answer? Proven, refuted by a witness, or not known.

    chain = chain_of(recipe, params)
    verdicts = verify(chain, forward_of(recipe, params), questions, np.random.default_rng(0))

Reading order: `network` (a recipe as a chain of blocks), `bounds` (intervals and CROWN, with what rounding may do),
`alpha` (better lines), `question` (what is asked), `falsify` (attacks), `exact` (mixed-integer programs), `splitting`
(branch and bound), `verify` (all of it in order), `radius` (how far inputs may move), `exchange` (for other tools),
`probe` (rows), `summary` (by class).
"""
