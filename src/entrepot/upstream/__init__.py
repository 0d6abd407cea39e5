"""Talks to registries: endpoints, connections, tokens, redirects, and patience with all of them.

`fleet.Upstreams` holds one `client.Upstream` per registry. An Upstream takes an `UpstreamRequest`
and returns the `UpstreamResponse` of whoever answers in the end. On the way there, an `attempt`
at one endpoint is a chain of hops (`redirect`), each of them one HTTP exchange (`transport`) that
carries what `authorization` finds right for its origin: a token (`token`), Basic credentials
(`credentials`), or nothing. `realm` and `address` are the two judgements on which safety rests:
who may be sent credentials, and where a host of others' choosing may lead.

It must not know what is asked for or what becomes of it: no cache, no digest, no client.
"""
