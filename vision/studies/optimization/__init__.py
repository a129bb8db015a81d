"""The art of training, visible: optimizers, initialisations, depth and width, what narrows the generalisation gap."""
