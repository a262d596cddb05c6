"""The conformance suite: proves that every layer, on every backend, computes what its definition means."""
