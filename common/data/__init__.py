"""Rows and texts: files to typed examples."""
