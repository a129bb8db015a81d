"""Programs that a researcher launches."""
