"""Threads, processes, the event loop and real time. Everything below it is synchronous."""
