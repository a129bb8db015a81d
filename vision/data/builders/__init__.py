"""TFDS builders for data sets that need no download."""
