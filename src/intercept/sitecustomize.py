# What every Python program of a shell loads first that ran `eval "$(latentd env)"`; latentd writes it at each start.
# Connections to fal's hosts go to the server on this machine. HTTPS_PROXY alone would not do: aiohttp, older websockets
# and asyncio ignore it; what they send must not leave this machine.
import _socket

_getaddrinfo = _socket.getaddrinfo


def _is_fal(host):
    name = host.decode("latin-1") if isinstance(host, bytes) else str(host)
    name = name.lower().rstrip(".")
    return any(name == domain or name.endswith("." + domain) for domain in latentd["domains"])


# Whoever connects to a name asks here for its addresses, and connects to what comes back, the port included.
def getaddrinfo(host, port, *args, **kwargs):
    if _is_fal(host):
        host, port = latentd["host"], latentd["port"]
    return _getaddrinfo(host, port, *args, **kwargs)


_socket.getaddrinfo = getaddrinfo


# There may be another of these files, which Python would have loaded in place of this one.
def _load_next():
    import os
    import sys
    from importlib import machinery, util

    here = os.path.dirname(os.path.realpath(__file__))
    rest = [path for path in sys.path if os.path.realpath(path) != here]
    spec = machinery.PathFinder.find_spec("sitecustomize", rest)
    if spec and spec.loader:
        module = util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_load_next()
