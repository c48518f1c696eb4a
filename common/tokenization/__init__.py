"""Texts to token batches, and the targets of language modelling."""
