"""One file for each kind of limit; their lines stand in ``config/registries.py``."""
