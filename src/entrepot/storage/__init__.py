"""Where bytes and small facts are kept.

Two protocols (`base`): `ContentStore` holds immutable content by digest, `Ledger` small records
by key. `memory` and `disk` implement both; tests/contract/ is what every implementation passes.
Nothing here knows a registry, a request or a rule of freshness.
"""
