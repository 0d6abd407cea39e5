"""The vocabulary of container registries, as values.

Pure: strings become values here once (`Reference`, `Digest`, `Route`, `Challenge`, `ByteRange`,
`Descriptor`), everything further in works with those. Nothing here does I/O, knows a server, a
store or a configuration.
"""
