"""What may go, by a rule: versions, uploads, runs, the store's unused artifacts and documents, this machine's copies.

Top down, so that a crash leaves only what the next run finds again: a version before its files, a run's files before
the run, documents before the artifacts that they name, a manifest before the files it lists.
"""
