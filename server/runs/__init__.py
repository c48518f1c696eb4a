"""Runs as directories: submit, follow, reconcile and report their state."""
