"""Configs: files that return a ``ConfigDict``, held against the signatures of the functions that use them."""
