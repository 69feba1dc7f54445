"""The page about a zoo: `population` (which networks), `section` (what a section is), `sections` (one theme a file),
`overview`, `cache`, `progress`, `page` (puts it together).
"""
