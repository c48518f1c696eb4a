"""Maintenance scripts of the project: prose rates, the command-line reference and the documentation site."""
