"""The small recipe of swarms of real processes, here and in the tests: seconds a network, with boundaries enough."""

SMALL_RECIPE = """
name = "{name}"
class = "{label}"
[task]
machine = "{machine}"
length = 6
sequences = 128
held_out = 32
[network]
layers = [{{ kind = "gru", width = 6 }}, {{ kind = "linear", width = 20 }}]
[training]
learning_rate = 0.01
batch = 16
max_steps = {steps}
segment_steps = {segment}
"""
