"""The fifteen studies of the page, one theme a file: `maps`, `classes`, `changes`, `training`, `paths`; and those of
`probes`.
"""
