"""Sections of the page from rows that probes left: `study` (what they share), then the probes: `corruption`,
`quantitative`, `information`, `surrogates`."""
