"""The certificate authority that clients trust, and the certificates it makes for registries.

    Authority   what the rest of the proxy holds: `leaf(host)`, `bundle_pem()`
    Standing    who signs, what clients are to trust and what comes, at one moment
    Issuer      a signing key with its certificate and chain
    Leaf        what the proxy shows a client in the name of a registry
    Own         a root of our making in a directory (`Home`): first start, rotation
    Brought     the operator's root or intermediate, read from where it lies

Roles follow from the files and the clock alone, so that a process that runs for years, a second
one beside it and the command line see the same without talking to each other. Nothing here knows
a socket, a proxy or a request.
"""
