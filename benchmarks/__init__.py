"""Benchmarks: the costs of the program, compared with the usual alternatives."""
