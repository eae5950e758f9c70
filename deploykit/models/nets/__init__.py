"""deploykit's own networks for small images, one a file; their lines stand in ``config/registries.py``."""
