"""DP-SGD: per-example gradients, clipping, noise from the operating system and the training loop."""
