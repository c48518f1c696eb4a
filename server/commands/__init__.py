"""The subcommands of `fedfin-hub`, one file each with an `add(commands)`."""
