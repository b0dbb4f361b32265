"""The only SQL: tables, transactions, the change log and the audit log. No policy of its own.

Reading path: `store.py` (open, snapshot, transaction), `apply.py` (what a plan must still meet),
then the small modules of typed methods that a transaction carries: `jobs`, `fleet`, `outbox`,
`audit`, `tenancy`, `identity`, `idempotency`, `changes`.
"""
