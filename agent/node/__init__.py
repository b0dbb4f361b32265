"""The node agent: owns one node's spool, its ranks' shims and its health readings."""
