"""The catalogue's rows (`rows`), the tables that probes left beside it (`probe_tables`), data frames (`frames`), and
parts that share nothing they must not (`parts`)."""
