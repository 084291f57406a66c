"""httpx for servers that speak plain HTTP, as all on this machine do.

It would load the machine's certificates for each request and each client, which takes 30 ms.
"""

import ssl
from functools import partial

import httpx

_no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

Client = partial(httpx.Client, verify=_no_certificates)
get = partial(httpx.get, verify=_no_certificates)
post = partial(httpx.post, verify=_no_certificates)
request = partial(httpx.request, verify=_no_certificates)
stream = partial(httpx.stream, verify=_no_certificates)
