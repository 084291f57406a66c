"""API keys in the console: create, look at, revoke."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from amplifierd.auth import keys
from amplifierd.common.console import ConsolePages, show
from amplifierd.common.formats import format_duration, format_time
from amplifierd.common.statements import read_clock
from amplifierd.common.text import visible
from amplifierd.models import ApiKey, Scope

FIELDS = ("name", "owner", "scope", "expires_at")
# A key's state → the CSS class of its badge.
BADGES = {"usable": "completed", "expired": "terminated", "revoked": "failed"}
# What a program with a scope can do.
MEANINGS = {
    Scope.READ: "reads, and changes nothing",
    Scope.WRITE: "creates and changes sessions of its owner",
    Scope.ADMIN: "changes the catalogue as well, and sees the sessions of every owner",
}


class ApiKeyForm(forms.ModelForm):
    """The form of a new key."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Two fields under one legend: each needs a label of its own.
        if field := self.fields.get("expires_at"):
            for part, label in zip(field.widget.widgets, ("Date", "Time"), strict=True):
                part.attrs["aria-label"] = label

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at and expires_at <= read_clock():
            raise ValidationError("This has passed; such a key would be of no use.")
        return expires_at


class StateFilter(admin.SimpleListFilter):
    """A filter by state: usable, expired or revoked."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state) for state in BADGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        states = {
            "usable": Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=Now())),
            "expired": Q(revoked_at=None, expires_at__lte=Now()),
            "revoked": Q(revoked_at__isnull=False),
        }
        return queryset.filter(states.get(self.value() or "", Q()))


# The entry of `request.META` that passes a new key to the page that shows it, once.
MADE_KEY = "amplifierd.made_key"


@admin.register(ApiKey)
class ApiKeyAdmin(ConsolePages):
    """API keys. A new key is shown once; afterwards only its prefix is known."""

    form = ApiKeyForm
    list_display = ("name", "key", "sessions", "scope", "badge", "used", "ends", "created_time")
    list_filter = (StateFilter, "scope", "owner")
    search_fields = ("name", "prefix", "owner")
    actions = ("revoke",)
    # What a key allows never changes; keys are revoked, and their rows are kept.
    denied = frozenset({"change", "delete"})

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        """Return the fields of the form for a new key, or all fields of an existing one."""
        facts = ("prefix", "badge", "created_at", "last_used_at", "revoked_at")
        return FIELDS if obj is None else (*FIELDS, *facts)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        """Return all fields of an existing key: it never changes."""
        return () if obj is None else self.get_fields(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return ApiKey.objects.with_clock()

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("amplifierd.change_apikey")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ApiKeyForm, change: bool) -> None:
        """Create the key; the request passes it to the page that shows it."""
        made, key = keys.create(**{name: form.cleaned_data[name] for name in FIELDS})
        request.META[MADE_KEY] = key
        for field in made._meta.concrete_fields:
            setattr(obj, field.attname, getattr(made, field.attname))
        obj._state.adding = False

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the key, without a redirect: for that it would have to be stored."""
        context = {
            "title": "The key is created",
            "made": obj,
            "key": request.META[MADE_KEY],
            "meaning": MEANINGS[Scope(obj.scope)],
            "url": request.build_absolute_uri(reverse("session-list")),
        }
        return self.render_page(request, "admin/amplifierd/apikey/made.html", context)

    @admin.action(description="Revoke selected API keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        for key in chosen:
            keys.revoke(key.prefix)
            self.log_change(request, key, "Revoked.")
        messages.success(request, f"Revoked: {', '.join(key.name for key in chosen)}.")

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show all facts about a key, and the button that revokes it."""
        if (key := kwargs.get("obj")) is not None:
            context |= {
                "title": key.name,
                "subtitle": None,
                "facts": [
                    ("Key", self.key(key)),
                    ("State", self.badge(key)),
                    ("Scope", f"{key.scope}: {MEANINGS[Scope(key.scope)]}"),
                    ("Owner", self.sessions(key)),
                    ("Last used", format_time(key.last_used_at) if key.last_used_at else "never"),
                    ("Ends", self.ends(key)),
                    ("Created", self.created_time(key)),
                    *([("Revoked", format_time(key.revoked_at))] if key.revoked_at else []),
                ],
                "may_revoke": self.has_revoke_permission(request) and key.state != "revoked",
            }
        return super().render_change_form(request, context, *args, **kwargs)

    # The rest of a key is not stored.
    key = show("key", lambda key: format_html("<code>amp_{}_…</code>", key.prefix))
    ends = show("ends", lambda key: format_time(key.expires_at) if key.expires_at else "never")
    created_time = show("created", lambda key: format_time(key.created_at))

    @admin.display(description="owner")
    def sessions(self, key: ApiKey) -> SafeString:
        query = urlencode({"owner": key.owner})
        url = f"{reverse('admin:sessions_app_session_changelist')}?{query}"
        return format_html('<a href="{}"><bdi>{}</bdi></a>', url, visible(key.owner))

    @admin.display(description="state")
    def badge(self, key: ApiKey) -> SafeString:
        state = key.state
        return format_html('<span class="badge badge-{}">{}</span>', BADGES[state], state)

    @admin.display(description="last used")
    def used(self, key: ApiKey) -> str:
        """Return how long ago the key was last used, to the minute."""
        if key.last_used_at is None:
            return "never"
        seconds = (key.now - key.last_used_at).total_seconds()
        return "now" if seconds < 60 else f"{format_duration(seconds)} ago"
