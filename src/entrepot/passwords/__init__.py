"""Who may log in with a password, and how often who guesses may try.

Users     those whose password is known here: one from the settings, or several from a file
Guesses   how many wrong ones came from where, and what they have to wait

Nothing is known here of what a login is for: HTTP, registries and rules are others'.
"""
