"""What weights are worth on other data: from scratch, as features, and fine-tuned, against the number of labels."""
