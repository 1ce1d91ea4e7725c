"""Who may ask the studio for what: checked before any route is looked at.

- The Host header must name this server: a page elsewhere whose name was pointed at 127.0.0.1 is refused.
- What changes something needs the header X-Studio-Token, which only our own page can read, and an Origin that is ours.
- Requests that a page of another site makes are refused, whatever they ask for.
- On another address than 127.0.0.1, everything needs the token: once in the URL, then as a cookie.
"""

from __future__ import annotations

import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER, COOKIE, QUERY = "x-studio-token", "studio-token", "token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
READS = ("GET", "HEAD")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Whether an address to bind to can be reached from this machine alone."""
    return host in LOOPBACK


class Guard:
    """Pure ASGI middleware."""

    def __init__(self, app: ASGIApp, *, token: str, host: str) -> None:
        """token: what the page must show.   host: the address that the server is bound to."""
        self._app, self._token, self._host = app, token, host
        self._open = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in names]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        request = Request(scope)
        answer = self._refusal(request)
        await (self._app if answer is None else answer)(scope, receive, send_guarded)

    def _refusal(self, request):
        """The answer in place of the route's, or None."""
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            return _error("this server is not known by that name; open the address that it printed", 403)
        if request.headers.get("sec-fetch-site", "none") == "cross-site" and not _opens_the_page(request):
            return _error("requests from pages of other sites are refused", 403)
        if not self._open:
            told = parse_qs(request.url.query).get(QUERY, [""])[0]
            if request.url.path == "/" and request.method in READS and self._is_token(told):
                return self._remember(request)
            if not any(map(self._is_token, (_cookie(request), request.headers.get(TOKEN_HEADER, "")))):
                return _error("the token is missing; open the whole address that the server printed", 403)
        if request.method in READS:
            return None
        if request.headers.get("origin", "") not in (f"http://{host}", f"https://{host}"):
            return _error("the Origin header is not this server's; only its own page may change something", 403)
        if not self._is_token(request.headers.get(TOKEN_HEADER, "")):
            return _error("the header X-Studio-Token is missing or of an earlier start; reload the page", 403)
        return None

    def _is_token(self, word):
        return secrets.compare_digest(word.encode(), self._token.encode())

    def _is_ours(self, header):
        """Whether a Host header names this server: itself, or, where others may come, an address in numbers."""
        name = header.rsplit(":", 1)[0] if not header.endswith("]") else header
        name = name.strip("[]").lower()
        if name in LOOPBACK or name == self._host.lower():
            return True
        if self._open:
            return False
        try:
            ipaddress.ip_address(name)  # a name that was pointed here is no number
        except ValueError:
            return False
        return True

    def _remember(self, request):
        """The page without the token in its address, and the token in a cookie that no script reads."""
        rest = {key: value for key, value in request.query_params.items() if key != QUERY}
        answer = RedirectResponse(f"/?{urlencode(rest)}" if rest else "/", 303)
        answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict", path="/")
        return answer


def _opens_the_page(request):
    """Following a link to the page, which any site may show."""
    return request.method in READS and request.url.path == "/" and request.headers.get("sec-fetch-mode") == "navigate"


def _cookie(request):
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _error(line, status):
    return JSONResponse({"error": line}, status)
