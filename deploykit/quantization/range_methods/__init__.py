"""One file for each way to choose a range; its line stands in ``config/registries.py``."""
