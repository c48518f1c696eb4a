"""The round loop: assign, admit, combine, checkpoint."""
