"""The catalogue's rows, and the tables that probes left beside it: `rows`, `probe_tables`."""
