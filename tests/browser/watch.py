"""What must not happen on any page: errors, breaches of the policy, calls to elsewhere, dialogs."""

from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Request

# Tells of each breach what was blocked, and where in the page's sources.
REPORT = """
document.addEventListener("securitypolicyviolation", (event) => {
    const place = `${event.sourceFile}:${event.lineNumber}`;
    tellOfBreach(`${event.violatedDirective}: ${event.blockedURI} at ${place} ${event.sample}`);
});
"""
# What a browser says of a server that is gone, or that has no database.
SERVER_GONE = ("net::ERR_", "status of 503")


class Watch:
    """Collects what went wrong in the pages of a context; `allowed` are pieces of what may."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.faults: list[str] = []
        self.allowed: list[str] = []
        context.expose_function("tellOfBreach", lambda text: self.note("policy", text))
        context.add_init_script(REPORT)
        context.on("weberror", lambda error: self.note("page error", error.error))
        context.on("console", self._console)
        context.on("request", self._request)
        context.on("dialog", self._dialog)

    def allow(self, *pieces: str) -> None:
        """Let faults pass that have one of these in them."""
        self.allowed += pieces

    def note(self, kind: str, what: Any) -> None:
        """Keep a fault."""
        self.faults.append(f"{kind}: {what}")

    def found(self) -> list[str]:
        """Return the faults that are not allowed."""
        return [fault for fault in self.faults if not any(a in fault for a in self.allowed)]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.note("console", f"{message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", "blob:")):
            self.note("request to elsewhere", request.url)

    def _dialog(self, dialog: Dialog) -> None:
        self.note("dialog", dialog.message)
        dialog.dismiss()
