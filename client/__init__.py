"""The institution: everything that touches its data, keys and privacy budget."""
