"""What people look at: the report of a run, and several runs side by side."""
