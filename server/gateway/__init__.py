"""The only port that institutions reach: mutual TLS and an allow-list of calls."""
