"""Everything that reads bytes of strangers, under malformed bytes: no crash, no hang, no growth, each refusal counted.

Reading order: `values` (a legal value of any message, drawn from its type), `mutate` (what is done to it), `targets`
(one for each parser, with legal samples; `judged_targets` begin behind the parsers, with signed messages), `runner`
(the loop, its limits, its count). `scripts/fuzz` runs it at length.
"""
