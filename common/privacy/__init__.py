"""Privacy accounting: events to epsilon, and the ledger that an institution keeps."""
