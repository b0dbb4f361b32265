"""The site agent: holds the one stream to the control plane and makes the site as desired."""
