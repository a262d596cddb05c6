"""The conformance suite: proves, for every layer on every installed backend, that it computes what its definition means."""
