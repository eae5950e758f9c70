"""The recipes that come with deploykit: ``deploykit run NAME``."""
