"""The conformance suite: what a client in any language has to get right, and a runner that checks it."""
