"""What other implementations say of our augmentations, case by case; written by tools.augmentation_goldens."""
