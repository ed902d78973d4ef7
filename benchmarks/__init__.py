"""Programs that measure. `python -m benchmarks.run` runs them; docs/benchmarks.md keeps the last results."""
