"""One state, one step, one loop, for everything that learns by gradient."""
