"""Copies of an organizer's directory.

Reading order: `epochs` (how far a restored beacon must skip), `backup` (while the host runs), `restore`.
"""
