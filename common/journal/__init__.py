"""Hash-chained, signed, append-only files."""
