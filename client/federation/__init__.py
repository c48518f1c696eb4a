"""An institution's part in a federated run: plan, forecast and one round."""
