"""What the hub and the institutions must agree on."""
