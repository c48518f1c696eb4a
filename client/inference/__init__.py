"""Predictions of a saved adapter, and merging it into its base model."""
