"""Sweeps: many settings of one config, trained and compared on data that are not the test data."""
