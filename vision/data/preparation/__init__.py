"""Preparing TFDS data sets: our own, which need nothing, and stock ones, which need a download and TensorFlow."""
