"""What a policy server is put through: swaps, overload, floods, kills and nonsense; and what comes of it."""
