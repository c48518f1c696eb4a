"""An institution's privacy budget: the ledger as a statement, a summary and a second opinion."""
