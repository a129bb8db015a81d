"""Weights in and out, and models out: the names and layouts of others, and how they map to ours."""
