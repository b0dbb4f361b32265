"""The control plane's gRPC face: who may call what, and thin servicers, one service a file."""
