"""The page about a zoo.

Reading order: `selection` (which networks), `soundness` (of the files), `caveats` (what to know of the networks first),
`study` (what a study is), `snippet` (runs the calls that the page shows), `studies` (one theme a file), `hover` (names
under the mouse), `overview`, `cache`, `page` (all of it), `first` (what can be said before that). Beside it `live_map`,
the verb `map`: for status pages. And `picture`: `analysis.plot`, a zoo in three lines.
"""
