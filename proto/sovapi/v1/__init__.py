"""Version 1 of the wire contract; generated modules, never edited by hand."""
