"""Base models: finding, checking, loading and extending them before an adapter is attached."""
