"""Results of a run: the evaluated global model and its saved adapter."""
