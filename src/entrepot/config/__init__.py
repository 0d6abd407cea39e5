"""The configuration: one frozen tree (`model`), built once.

Defaults < file < environment < flags. What was written becomes a `tree` of texts that know where
they stand; `environment` and `rpardini` lay the variables over it; `build` makes the typed tree
by the annotations of the model, with `convert` for single values; `load` puts it together and
checks what concerns several settings. `render` writes it out again, for people (`config show`)
and as the shipped `config/entrepot.yaml`. Only this package reads files of settings or makes
sense of the process's environment, which the command line hands to it.
"""
