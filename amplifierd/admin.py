"""API keys in the console: made, looked at, revoked."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from amplifierd.auth import keys
from amplifierd.models import ApiKey, Scope
from sessions_app.admin.rendering import format_duration, format_time, visible

FIELDS = ("name", "owner", "scope", "expires_at")
# A key's state → the colour that it has.
BADGES = {"usable": "completed", "expired": "terminated", "revoked": "failed"}
# What a scope lets a program do.
MEANINGS = {
    Scope.READ: "looks, and changes nothing",
    Scope.WRITE: "makes and changes sessions of its owner",
    Scope.ADMIN: "changes the catalogue as well, and sees the sessions of every owner",
}


class ApiKeyForm(forms.ModelForm):
    """What a new key is to be."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Two fields under one legend: each has to say what it is.
        if field := self.fields.get("expires_at"):
            for part, label in zip(field.widget.widgets, ("Date", "Time"), strict=True):
                part.attrs["aria-label"] = label

    def clean_expires_at(self) -> Any:
        """Return the date; raise ValidationError for one that has passed."""
        expires_at = self.cleaned_data["expires_at"]
        if expires_at and expires_at <= timezone.now():
            raise ValidationError("This has passed; such a key would be of no use.")
        return expires_at


class StateFilter(admin.SimpleListFilter):
    """Whether keys are let in."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the states that a key can be in."""
        return [(state, state) for state in BADGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        """Return the keys in that state."""
        states = {
            "usable": Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=Now())),
            "expired": Q(revoked_at=None, expires_at__lte=Now()),
            "revoked": Q(revoked_at__isnull=False),
        }
        return queryset.filter(states.get(self.value() or "", Q()))


# Where a request carries a new key from where it is made to the page that shows it, once.
MADE_KEY = "amplifierd.made_key"


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    """API keys. What is made here is shown once; afterwards there is only its prefix."""

    form = ApiKeyForm
    list_display = ("name", "key", "sessions", "scope", "badge", "used", "ends", "created")
    list_filter = (StateFilter, "scope", "owner")
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("name", "prefix", "owner")
    actions = ("revoke",)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list under its plain name."""
        return super().changelist_view(request, {"title": "API keys", **(extra_context or {})})

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        """Ask for what is to be decided; of a key that is there, show all."""
        facts = ("prefix", "badge", "created_at", "last_used_at", "revoked_at")
        return FIELDS if obj is None else (*FIELDS, *facts)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        """A key that is there never changes."""
        return () if obj is None else self.get_fields(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """What a key opens is settled when it is made."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Keys are revoked, and stay to be looked up."""
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Who may change keys may revoke them."""
        return request.user.has_perm("amplifierd.change_apikey")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ApiKeyForm, change: bool) -> None:
        """Have the key made; the request carries it to the page that shows it."""
        made, key = keys.create(**{name: form.cleaned_data[name] for name in FIELDS})
        request.META[MADE_KEY] = key
        for field in made._meta.concrete_fields:
            setattr(obj, field.attname, getattr(made, field.attname))
        obj._state.adding = False

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the key; it goes by no redirect, for which it would have to be kept somewhere."""
        context = {
            **self.admin_site.each_context(request),
            "title": "The key is made",
            "opts": self.opts,
            "made": obj,
            "key": request.META[MADE_KEY],
            "meaning": MEANINGS[Scope(obj.scope)],
            "url": request.build_absolute_uri(reverse("session-list")),
        }
        return TemplateResponse(request, "admin/amplifierd/apikey/made.html", context)

    @admin.action(description="Revoke selected API keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        """Let the keys in no longer."""
        for key in chosen:
            keys.revoke(key.prefix)
            self.log_change(request, key, "Revoked.")
        messages.success(request, f"Revoked: {', '.join(key.name for key in chosen)}.")

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show what there is to know of a key, and the button that revokes it."""
        if (key := kwargs.get("obj")) is not None:
            context |= {
                "title": key.name,
                "subtitle": None,
                "facts": self._facts(key),
                "may_revoke": self.has_revoke_permission(request) and key.state != "revoked",
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def _facts(self, key: ApiKey) -> list[tuple[str, Any]]:
        return [
            ("Key", self.key(key)),
            ("State", self.badge(key)),
            ("Scope", f"{key.scope}: {MEANINGS[Scope(key.scope)]}"),
            ("Owner", self.sessions(key)),
            ("Last used", format_time(key.last_used_at) if key.last_used_at else "never"),
            ("Ends", format_time(key.expires_at) if key.expires_at else "never"),
            ("Created", format_time(key.created_at)),
            *([("Revoked", format_time(key.revoked_at))] if key.revoked_at else []),
        ]

    @admin.display(description="key")
    def key(self, key: ApiKey) -> SafeString:
        """Return what is known of the key: its prefix."""
        return format_html("<code>amp_{}_…</code>", key.prefix)

    @admin.display(description="owner")
    def sessions(self, key: ApiKey) -> SafeString:
        """Return the owner, with a link to its sessions."""
        query = urlencode({"owner": key.owner})
        url = f"{reverse('admin:sessions_app_session_changelist')}?{query}"
        return format_html('<a href="{}"><bdi>{}</bdi></a>', url, visible(key.owner))

    @admin.display(description="state")
    def badge(self, key: ApiKey) -> SafeString:
        """Say whether the key is let in, in its colour."""
        state = key.state
        return format_html('<span class="badge badge-{}">{}</span>', BADGES[state], state)

    @admin.display(description="last used")
    def used(self, key: ApiKey) -> str:
        """Return how long ago the key was shown last; it is noted to the minute."""
        if key.last_used_at is None:
            return "never"
        seconds = (timezone.now() - key.last_used_at).total_seconds()
        return "now" if seconds < 60 else f"{format_duration(seconds)} ago"

    @admin.display(description="ends")
    def ends(self, key: ApiKey) -> str:
        """Return until when the key is let in."""
        return format_time(key.expires_at) if key.expires_at else "never"

    @admin.display(description="created")
    def created(self, key: ApiKey) -> str:
        """Return when the key was made."""
        return format_time(key.created_at)
