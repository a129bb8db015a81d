"""What compares many learners: the ladder, sweeps, bias and variance, robustness."""
