"""Options of fine-tuning: their defaults, their resolution for one job, the memory they need, and advice on them."""
