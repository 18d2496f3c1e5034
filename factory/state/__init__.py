"""The state of a run on disk: plan, ledger, lock, and the record in run.json."""
