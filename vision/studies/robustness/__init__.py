"""What trained and fitted runs withstand: the same corrupted images before all of them."""
