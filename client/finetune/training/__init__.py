"""Training loops of fine-tuning alone: optimiser, time budget and supervised fine-tuning by TRL."""
