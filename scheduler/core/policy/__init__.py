"""The rules that a policy consists of, and their evaluation over what is known of a site."""
