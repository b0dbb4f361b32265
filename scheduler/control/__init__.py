"""The machine without sockets: synchronous, no clock, no randomness. The simulator drives this.

Reading path: `control.py` (everything that can be asked of it), `life.py` (how a job moves),
`reports.py` (what sites say), `admission.py` (what is let in), `outbox.py` (what sites are told).
"""
