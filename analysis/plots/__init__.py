"""Draw tables that they are given: `base` (curves, maps, matrices), `populations`."""
