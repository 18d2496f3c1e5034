"""The files of a run: plan, ledger, lock, and what run.json says."""
