"""Where the error of a learner comes from: bias, variance and noise; and how many dimensions images really have."""
