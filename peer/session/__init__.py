"""Talking to one coordinator.

Reading order: `client` (gRPC), `dataset_fetcher` (data sets on their way), `requests` (what a heartbeat's reply asks of
us), `session` (the conversation).
"""
