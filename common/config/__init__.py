"""A run's configuration: TOML text to frozen, validated values."""
