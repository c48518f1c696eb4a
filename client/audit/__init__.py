"""Attacks on what an institution claims: canaries, direct checks of the mechanism, inversion of an update."""
