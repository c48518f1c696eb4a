"""The hub's directory: configuration, keys, enrolled institutions, public data and the signed audit log."""
