"""Configs of estimators that are fitted to hand-made features; see vision/training/fit_schema.py for the keys."""
