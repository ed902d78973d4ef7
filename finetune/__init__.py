"""Turn verified traces into better workers: rows, trainers, adapters, the gate, the swap."""
