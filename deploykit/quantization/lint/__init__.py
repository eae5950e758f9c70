"""What keeps a graph from running in int8, and how to fix it."""
