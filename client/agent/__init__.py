"""The agent: the only process of an institution that holds keys, rows, ledger and model."""
