"""Everything that knows mitmproxy: from a client's connection to the engine and back.

    HttpProxy (mitmproxy) → FrontLayer ┬ origin-form ──────────────→ HttpLayer → own pages
                                       ├ CONNECT to a registry → TLS → HttpLayer → engine
                                       ├ http:// to a registry ────→ HttpLayer → engine
                                       └ all else ─────────────────→ TunnelLayer

    RegistryTop (ours) → RegistryLayer → TLS → HttpLayer ──→ local registries, on their own port

mitmproxy accepts connections and does TLS; `Addon` puts `FrontLayer` on top in its `next_layer`
hook and hands over our certificates. `FrontLayer` reads the first request's head and chooses.
`HttpLayer` is HTTP/1.1 without I/O: events in, commands out, on a parser (`http1`) that knows no
mitmproxy. An `exchange` is the coroutine that asks a `Responder` and sends what it answers
through a `ClientPort`, chunk by chunk as the client drains. `tunnel` says where may be tunnelled.
Hooks of ours fail closed: whatever goes wrong is answered, never forwarded instead.
"""
