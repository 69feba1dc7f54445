"""The volunteer's directory: `bundle` (one assignment's files), `home` (identity, campaigns, bundles)."""
