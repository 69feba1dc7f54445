"""The volunteer's directory.

Reading order: `bundle` (one assignment's files), `home` (identity, campaigns), `check_job` (a check as a file),
`workspace` (what is done and found there).
"""
