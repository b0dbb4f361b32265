"""The whole system on one machine, with real parts: for the demo, for development, for end-to-end
tests.
"""
