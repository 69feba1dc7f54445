"""What one can know about a network beyond its weights: probes, each a table of rows (docs/probes.md).

    from analysis.probes.corruption.probe import CorruptionSettings
    from analysis.probes.run import probe
    table = probe(open_zoo("zoo/"), "class = 'digits'", CorruptionSettings())

Reading order: `contract` (what a probe is), `names` (which there are), `registry` (one by name), `run` (all units, kept
as they come), `work` (one unit, in whichever process), `store` (ZOO/probes/NAME.parquet), `samples` (a task for
PyTorch), `across` (all of them in one table), `command` (the verb).

Probes, one a line:
- `attribution`: do explanations see what was learnt?
- `corruption`: how small a change of the weights does harm?
- `gp`: a kernel for a family of networks
- `information`: how many bits of a task a network knows
- `quantitative`: how often a property fails, from samples alone
- `transfer`: what a network gives to another task
- `verification`: how far inputs may move before the answer can change, provably
"""
