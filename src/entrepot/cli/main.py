"""The verbs, put together."""

import click

from entrepot import __version__
from entrepot.cli.ca import ca_group
from entrepot.cli.cache import cache_group
from entrepot.cli.config import config_group
from entrepot.cli.registry import registry_group
from entrepot.cli.serve import serve_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="entrepot")
def main() -> None:
    """A forward HTTPS proxy that caches every container registry, image names unchanged.

    Exit codes: 0 all went well, 1 it did not, 2 the command line is wrong.
    """


main.add_command(serve_command)
main.add_command(ca_group)
main.add_command(cache_group)
main.add_command(config_group)
main.add_command(registry_group)
