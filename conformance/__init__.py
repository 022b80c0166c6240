"""The conformance suite: vectors and scenarios for clients in any language, and a runner that checks clients."""
