"""Sections of the page from rows that probes left: `study` (what they share), then one probe a file: `corruption`,
`quantitative`, `information`."""
