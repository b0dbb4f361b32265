"""Fleets to declare, and what is made from them."""
