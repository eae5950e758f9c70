"""One file for each form of data; its line stands in ``config/registries.py``."""
