"""The run report. It reads files only."""
