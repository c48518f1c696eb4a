"""Options of fine-tuning: defaults, their resolution, memory estimates and advice."""
