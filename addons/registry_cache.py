"""The registry cache as a mitmproxy addon: `mitmdump -p 3128 -s addons/registry_cache.py`.

The code is in src/entrepot: `app.py` puts it together, `interception/` is what mitmproxy calls.
`entrepot serve` is the primary way to run it; this one is for stacking other addons.
"""

from entrepot.mitmproxy_entry import addon_from_environment

addons = [addon_from_environment()]
