"""Accuracy against the number of training examples: who needs more data."""
