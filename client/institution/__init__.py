"""An institution's directory: its configuration, keys, ledger and enrolment."""
