"""The field report: what a campaign among volunteers was like, as papers on open collaboration tell it (DeDLOC, 2021).

Reading order: `activity` (what the ledger says), `measures` (numbers from it; no clock, no disk), `page` (pictures and
the page). Only what reached the organizer is known: work that never came back left no trace here.
"""
