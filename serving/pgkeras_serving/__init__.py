"""The policy server: exported policies, served over gRPC."""
