"""Generated protocol stubs (``make protos``). The contract itself is ``protos/pgkeras/v1/*.proto``."""
