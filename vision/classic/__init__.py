"""Hand-made features, and estimators that are fitted rather than trained step by step."""
