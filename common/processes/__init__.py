"""Child processes and daily notices of the long-running commands."""
