"""Every setting of the gateway, in one place. A room of its own: imports only errors and limits, and whoever needs a setting may enter.

Where a value comes from, first match wins: a flag, the environment (``MVGATEWAY_`` and the
setting's name in capitals), the TOML file named by ``--config`` or ``MVGATEWAY_CONFIG`` (flat
keys), the default. An unknown key is an error that names the nearest known one.

:data:`SETTINGS` describes them (:mod:`.settings`); :func:`add_flags` makes command-line flags of them and
:func:`load` answers a validated :class:`Settings`. ``docs/CONFIG.md`` lists them all.
"""

from gateway.config.addresses import in_brackets, is_loopback, split_address
from gateway.config.agreeing import PEERS_OF_THE_STORE
from gateway.config.flags import add_flags, flag_of
from gateway.config.loading import ENVIRONMENT_OTHERS, ENVIRONMENT_PREFIX, data_directory, load
from gateway.config.settings import SETTINGS, Settings, reloadable

__all__ = [
    "ENVIRONMENT_OTHERS",
    "ENVIRONMENT_PREFIX",
    "PEERS_OF_THE_STORE",
    "SETTINGS",
    "Settings",
    "add_flags",
    "data_directory",
    "flag_of",
    "in_brackets",
    "is_loopback",
    "load",
    "reloadable",
    "split_address",
]
