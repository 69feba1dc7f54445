"""Copying a zoo, checked on the way.

Reading order: `source` (a server or a directory), `wanted` (which files, verified how), `transfer` (whole or absent),
`command` (the verb, with its progress).
"""
