"""Telling others how the host is.

Reading order: `alerts` (what is worth a message: a function of two statuses), `webhook` (it is sent), `metrics`
(numbers for Prometheus), `watching` (options of `host`, and the parts together; logs as JSON).
"""
