"""Messages between hub and institution: content, adapter encoding and sealed envelopes."""
