"""Every rung of learning on the same data, from no learning at all to transformers."""
