"""How small a change of the weights does harm? Parameter corruption (Sun, Zhang, Ren, Luo, Li; AAAI 2021: its abstract
read, its tables not).

Reading order: `directions` (the worst change, in closed form), `ascent` (what a change does, in one step or many),
`probe` (rows), `summary` (the table of the page).
"""
