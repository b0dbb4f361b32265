"""What runs at an exchange site: the site agent and the node agents."""
