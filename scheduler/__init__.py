"""The control plane: turns requests and site reports into facts, and facts into plans."""
