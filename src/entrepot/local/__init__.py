"""Looking after a registry of one's own: what is in it, what goes, and its storage kept small.

    premises    a local registry as its jobs see it: settings, catalogue, ledger
    catalogue   what the registry says it holds, over HTTP; and deletions
    reach       what tags lead to, and what nothing leads to
    removal     tags, versions and leftovers deleted, and forgotten by the cache (`forgetting`)
    retention   which tags go by rule
    collection  the registry's own garbage collection, while writes are held back
    hold        the job's side of that: a record in the ledger that it renews
    keeper      the proxy's side: refuses writes, and tells what is still on its way (`pushes`)
    command     the operator's command, under a `guard` that ends it when its job is gone
    schedule    all of this by night

Jobs and proxies are processes that share nothing but a ledger. It must not know clients.
"""
