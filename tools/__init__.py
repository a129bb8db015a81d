"""Programs that a maintainer runs."""
