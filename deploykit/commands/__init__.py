"""The public functions, one file each; they compose the rooms."""
