"""The loss around trained networks, along random directions."""
