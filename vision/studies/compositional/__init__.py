"""Whether words that are known from other combinations are understood together."""
