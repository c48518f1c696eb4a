"""Fine-tuning strategies, one module each. Strategies do not import each other."""
