"""The hub: whom to ask, what to accept, how to combine it."""
