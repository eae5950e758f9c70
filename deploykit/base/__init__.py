"""What every room stands on: errors, configs, artifacts, the runner protocol. Imports nothing from above."""
