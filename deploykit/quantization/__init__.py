"""int8: observers, ranges, Q/DQ placement per target, weights, lint and audit."""
