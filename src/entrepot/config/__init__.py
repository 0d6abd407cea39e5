"""The configuration: one frozen tree (`model`), built once.

Defaults < file < environment < flags. What was written becomes a `tree` of texts that know where
they stand; `environment` lays the variables over it; `build` makes the typed tree by the
annotations of the model, with `convert` for single values; `checks` finds what is wrong between
several settings, `surroundings` what is not there; `load` puts it together. `render` writes it out
again for people (`config show`), `template` as the shipped `config/entrepot.yaml`. Only this
package reads files of settings or makes sense of the process's environment, which the command line
hands to it.
"""
