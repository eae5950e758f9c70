"""The clock: worker processes, interleaved blocks, scenarios, sweeps, what the machine did meanwhile. Imports no torch."""
