"""What a node's hardware says of itself, read and typed. Nothing here judges."""
