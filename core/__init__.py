"""Everything that answers a question: types, search, verification, providers, the orchestrator and its apps."""
