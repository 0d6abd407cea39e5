"""The configuration: one frozen tree (`model`), built once from defaults < file < environment < flags.

`load` reads the YAML file and knows its lines, `environment` maps variables (rpardini's among
them) onto the tree, `render` writes it out again, for people (`config show`) and as the shipped
`config/entrepot.yaml`. Only this package reads files of settings or `os.environ`.
"""
