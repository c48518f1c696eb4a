"""Training histories, their recommendations and reports."""
