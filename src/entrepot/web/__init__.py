"""The proxy's own pages on its own port: what it is, its CA, client set-up, health, metrics.

They only read. Templates are rendered with autoescape: names on them come from clients and
upstreams.
"""
