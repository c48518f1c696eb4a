"""Model plus examples to mergeable counts, and counts to metrics."""
