"""A stand-in for NVIDIA's library, built by gcc and driven by a text file."""
