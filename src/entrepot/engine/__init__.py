"""What the proxy does with a request for a registry, without a socket of its own.

`service` takes a `Request` (`message`) and returns a `Response`, whose body may still be on its
way. `manifests`, `blobs` and `listings` apply the cache rules, `fill` gets a blob once for many
readers, `access` keeps private content private, `token_service` answers for the registry's, and
`forward` passes on the rest. It knows registries by their `upstream` and what is kept by
`storage`; it knows nothing of mitmproxy, connections or TLS.
"""
