"""One file for each criterion of a channel's importance; its line stands in ``config/registries.py``."""
