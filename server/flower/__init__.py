"""The hub's Flower app and its message exchange."""
