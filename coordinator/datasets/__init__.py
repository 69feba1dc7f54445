"""The organizer's data sets: `importers` (IDX, CSV, NumPy ... into the container), `store` (what is served)."""
