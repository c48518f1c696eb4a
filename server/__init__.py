"""The hub: sample institutions, admit and combine their updates, and keep the record of it."""
