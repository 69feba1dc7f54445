"""What must not be forgotten.

Reading order: `tables`, `database` (one writer, durable before anything is answered), `settlement` (what a finished
case changes), `results` (results as they come in), `heartbeats` (who is here).
"""
