"""What should happen, as functions of facts and time.

`referee`: which result is checked by whom, and when that is over.
"""
