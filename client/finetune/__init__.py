"""How an institution trains, one file a strategy."""
