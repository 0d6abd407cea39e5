import warnings

with warnings.catch_warnings():
    # mitmproxy calls pyparsing by names that its newer versions warn of, once, when it is imported.
    warnings.simplefilter("ignore", DeprecationWarning)
    import mitmproxy.addons  # noqa: F401 - for the tests that import it after this
