"""The subcommands of `fedfin-institution`, one file each with an `add(commands)`."""
