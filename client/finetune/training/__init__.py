"""The training loop without privacy: minibatches, learning rates, hours, and TRL for decoders in four bits."""
