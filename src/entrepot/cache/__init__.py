"""The cache rules: pure functions of what is known, of policy and of time.

Nouns: a `Binding` says what a tag pointed to when it was last asked about, an `Absence` that
there was nothing, a `Verdict` that somebody may read a repository. `decide` picks the action,
`rules` finds the policy of a tag, `record` is how these facts are written down. Nothing here
does I/O or knows where facts and bytes are kept.
"""
