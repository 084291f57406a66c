"""Django settings. What an operator may change comes from the environment: see docs/settings.md."""

from datetime import timedelta

from csp.constants import NONE, SELF

from amplifierd import __version__, env
from amplifierd.common import program
from amplifierd.common.outage import note_outage
from amplifierd.postgres import embedded_url

BASE_DIR = program.BASE_DIR

# The data folder: database, secret key, root directory, model files.
HOME = env.folder("AMPLIFIERD_HOME", program.DEFAULT_HOME)
HOST = env.text("AMPLIFIERD_HOST", "127.0.0.1")
PORT = env.number("AMPLIFIERD_PORT", 8420)
# Whether a proxy that ends TLS is in front; then its X-Forwarded-For and -Proto are trusted.
BEHIND_PROXY = env.flag("AMPLIFIERD_BEHIND_PROXY")
# The cell that this installation is, if there are several: ids and keys that it makes carry it.
CELL = env.cell("AMPLIFIERD_CELL")
# The path below which a proxy serves the daemon, without a slash at its end; empty for none.
OWN_PATHS = ("admin", "api", "docs", "favicon.ico", "livez", "readyz", "static")
PREFIX = env.url_prefix("AMPLIFIERD_PREFIX", OWN_PATHS)
# The certificate with its chain, and its key, as PEM files: TLS without a proxy.
TLS_CERT = env.text("AMPLIFIERD_TLS_CERT")
TLS_KEY = env.text("AMPLIFIERD_TLS_KEY")
# Whether programs of other machines can reach it.
PUBLIC = BEHIND_PROXY or not env.is_loopback(HOST)
# Whether callers must send an API key; a key that is sent is always checked.
# Finds the rights of sessions by their owners, for code below the keys.
FIND_RIGHTS = "amplifierd.auth.keys.find_rights"
REQUIRE_KEYS = env.flag("AMPLIFIERD_REQUIRE_KEYS", default=PUBLIC)
# The root of all amplified directories.
ROOT_DIR = env.folder("AMPLIFIERD_ROOT", HOME / "root")
# Whether commands of tool-bash need a sandbox: `auto` uses what there is, `required` refuses them
# without one. If it is empty, a sandbox is required where keys are.
SANDBOX = env.choice("AMPLIFIERD_SANDBOX", ("", "auto", "required", "off"))
MODELS_DIR = env.folder("AMPLIFIERD_MODELS", HOME / "models")
# Hosts, besides all public ones, to which the daemon may connect if somebody names them.
OUTBOUND_HOSTS = env.hosts("AMPLIFIERD_OUTBOUND_HOSTS")
# The same for collections only: the former name.
COLLECTION_HOSTS = env.hosts("AMPLIFIERD_COLLECTION_HOSTS")
# Whether file:// is a git URL, too; only for tests.
COLLECTIONS_FROM_FILE_URLS = False
# Whether `serve` downloads the local model if it is missing.
FETCH_MODEL = env.flag("AMPLIFIERD_FETCH_MODEL", default=True)

# Web processes on one shared socket, and the threads of each for requests that are not streams.
WEB_PROCESSES = env.number("AMPLIFIERD_WEB", 2)
WEB_THREADS = env.number("AMPLIFIERD_THREADS", 8)
# Seconds until a request without an answer gets 503; its work goes on to its end.
ANSWER_SECONDS = env.number("AMPLIFIERD_ANSWER_SECONDS", 30)
# One for each core, up to four: more wait for PostgreSQL rather than for a core.
WORKER_PROCESSES = env.number("AMPLIFIERD_WORKERS", min(env.count_cores(), 4))
# Runs that one worker process executes at a time.
WORKER_CONCURRENCY = env.number("AMPLIFIERD_CONCURRENCY", 150)

# Runs of one session that may wait; one more is refused with 429.
MAX_QUEUED_RUNS = env.number("AMPLIFIERD_MAX_QUEUED_RUNS", 20)
# What one owner may use if keys are required, and no row of its own says otherwise; 0 is no limit.
# Runs at once over all workers: half of what one worker holds, so that there is room for others.
OWNER_RUNS = env.number("AMPLIFIERD_OWNER_RUNS", max(1, WORKER_CONCURRENCY // 2))
# Runs that wait for a place.
OWNER_QUEUED = env.number("AMPLIFIERD_OWNER_QUEUED", 1000)
OWNER_SESSIONS = env.number("AMPLIFIERD_OWNER_SESSIONS", 100_000)
OWNER_DIRECTORIES = env.number("AMPLIFIERD_OWNER_DIRECTORIES", 1000)
# Bytes of messages and events.
OWNER_BYTES = env.number("AMPLIFIERD_OWNER_BYTES", 10 * 1024**3)
# Seconds without a sign of a worker after which another one takes over its run.
LEASE_SECONDS = env.number("AMPLIFIERD_LEASE", 30)
# How often a run is tried before it fails, if its workers die.
MAX_ATTEMPTS = env.number("AMPLIFIERD_MAX_ATTEMPTS", 3)
# Days for which a person may answer a tool that waits for one.
APPROVAL_DAYS = env.number("AMPLIFIERD_APPROVAL_DAYS", 30)
# Seconds that processes get to finish their work when the daemon stops.
DRAIN_SECONDS = env.number("AMPLIFIERD_DRAIN", 20)

# Hours for which the answer to a request with an Idempotency-Key is kept.
IDEMPOTENCY_HOURS = env.number("AMPLIFIERD_IDEMPOTENCY_HOURS", 24)

# Days for which failed logins, and what was done in the console, are kept.
LOGIN_DAYS = env.number("AMPLIFIERD_LOGIN_DAYS", 30)
CONSOLE_LOG_DAYS = env.number("AMPLIFIERD_CONSOLE_LOG_DAYS", 365)

# Days after the end of a session until its journal is compacted; 0: never.
COMPACT_AFTER_DAYS = env.number("AMPLIFIERD_COMPACT_AFTER_DAYS", 0)

# A folder with which tests stop processes at certain points; empty except in tests.
BARRIERS = env.text("AMPLIFIERD_BARRIERS")

# Seconds without an event after which a stream sends `keepalive`.
STREAM_KEEPALIVE = env.number("AMPLIFIERD_KEEPALIVE", 15)
# Streams of one web process, and of one session in it; one more is refused with 429.
MAX_STREAMS = env.number("AMPLIFIERD_MAX_STREAMS", 2000)
MAX_SESSION_STREAMS = env.number("AMPLIFIERD_MAX_SESSION_STREAMS", 200)
# Feeds of all sessions in one web process; one more is refused with 429.
MAX_FEEDS = env.number("AMPLIFIERD_MAX_FEEDS", 50)
# Streams of one owner's sessions, and feeds of one owner, in one web process, if keys are required.
OWNER_STREAMS = env.number("AMPLIFIERD_OWNER_STREAMS", max(1, MAX_STREAMS // 2))
OWNER_FEEDS = env.number("AMPLIFIERD_OWNER_FEEDS", max(1, MAX_FEEDS // 2))
# Seconds after which a stream ends; its client reconnects with its cursor.
STREAM_LIFETIME = env.number("AMPLIFIERD_STREAM_LIFETIME", 3600)
# Bytes that are kept for a client that does not read, and the seconds until it is cut.
STREAM_UNREAD = env.number("AMPLIFIERD_STREAM_UNREAD", 1024 * 1024)
STREAM_STALL = env.number("AMPLIFIERD_STREAM_STALL", 30)
# The largest request body, in bytes.
BODY_LIMIT = env.number("AMPLIFIERD_BODY_LIMIT", 2 * 1024 * 1024)

# Seconds that PostgreSQL may take for one statement of a web process; 0 is no limit.
STATEMENT_TIMEOUT = env.number("AMPLIFIERD_STATEMENT_TIMEOUT", 5)
# The most rows of one page of a list, and the default.
PAGE_SIZE = env.number("AMPLIFIERD_PAGE_SIZE", 1000)
# Characters of a session's name; the column has room for 200.
NAME_LENGTH = min(env.number("AMPLIFIERD_NAME_LENGTH", 200), 200)
# Bytes of the JSON that a client may store with a session or message, and its levels.
METADATA_BYTES = env.number("AMPLIFIERD_METADATA_BYTES", 64 * 1024)
METADATA_DEPTH = env.number("AMPLIFIERD_METADATA_DEPTH", 32)

NAMED_HOSTS = env.words("AMPLIFIERD_ALLOWED_HOSTS")
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", *NAMED_HOSTS]
# Origins of foreign pages that may call, written exactly: https://app.example.com
ALLOWED_ORIGINS = env.words("AMPLIFIERD_ALLOWED_ORIGINS")
CSRF_TRUSTED_ORIGINS = ALLOWED_ORIGINS

DEBUG = env.flag("AMPLIFIERD_DEBUG")
SECRET_KEY = env.secret_key(HOME)

DATABASE_URL = env.text("DATABASE_URL") or embedded_url(HOME)
# The most connections of one process.
DATABASE_POOL = env.number("AMPLIFIERD_POOL", WEB_THREADS + 4)
# The same database without the proxy that DATABASE_URL leads to, such as pgbouncer, which pools
# transactions: for notifications, migrations, and whatever else needs one connection to itself.
LISTEN_URL = env.text("AMPLIFIERD_LISTEN_URL")
# Whether the statements of the hot paths are prepared; most proxies of this kind forbid it.
PREPARED_STATEMENTS = env.flag("AMPLIFIERD_PREPARED_STATEMENTS", default=not LISTEN_URL)
DATABASES = {"default": env.database(DATABASE_URL, DATABASE_POOL, note_outage, direct=LISTEN_URL)}

INSTALLED_APPS = [
    "amplifierd",
    "profiles_app",
    "sessions_app",
    "pgtrigger",
    "axes",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "sessions_app.site.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "amplifierd.server.health.OutageMiddleware",
    # Requests of the API go no further down than this.
    "amplifierd.server.api_middleware.APIMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "amplifierd.urls"
ASGI_APPLICATION = "amplifierd.asgi.application"
WSGI_APPLICATION = "amplifierd.wsgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
# After too many failures a login is locked for a while: the pair of name and address, so that
# nobody can lock the owner of a name out elsewhere. Further attempts do not extend the time.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = env.number("AMPLIFIERD_LOGIN_FAILURES", 10)
AXES_COOLOFF_TIME = timedelta(minutes=env.number("AMPLIFIERD_LOGIN_COOLOFF", 5))
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_CALLABLE = "amplifierd.auth.signin.show_lockout"
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

CSRF_FAILURE_VIEW = "amplifierd.common.problems.csrf_failed"

# The only pages for people are the console's.
LOGIN_URL, LOGIN_REDIRECT_URL = "admin:login", "admin:index"

# Pages load only what the daemon serves; they cannot be in a frame and run no inline code.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Every URL in our answers begins with it, whether or not the proxy has removed it from the request.
FORCE_SCRIPT_NAME = PREFIX or None
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = PREFIX or "/"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC or bool(TLS_CERT)
# Sent only over TLS.
SECURE_HSTS_SECONDS = env.number("AMPLIFIERD_HSTS", 365 * 24 * 3600)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SILENCED_SYSTEM_CHECKS = [
    # An operator decides about other hosts of the domain, and about the browsers' lists.
    "security.W005",
    "security.W021",
    # A redirect is too late for a key that was sent without TLS; the proxy redirects pages.
    "security.W008",
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
# Below the prefix, which Django adds.
STATIC_URL = "static/"
# The daemon serves the admin's files straight from the packages: nothing to collect.
WHITENOISE_USE_FINDERS = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# The server refuses larger requests before Django gets them.
DATA_UPLOAD_MAX_MEMORY_SIZE = BODY_LIMIT

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["amplifierd.auth.callers.CallerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["amplifierd.auth.callers.HasScope"],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_PARSER_CLASSES": ["amplifierd.common.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["amplifierd.common.serializers.FastJSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "amplifierd.common.serializers.JSONNegotiation",
    # `?format=` has no meaning.
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "amplifierd.common.problems.exception_handler",
    "DEFAULT_METADATA_CLASS": "amplifierd.common.openapi.components.Methods",
    "DEFAULT_SCHEMA_CLASS": "amplifierd.common.openapi.operation.Description",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "amplifierd",
    "DESCRIPTION": (
        "Durable LLM sessions. Every URL answers with and without its trailing slash. Bodies take "
        "snake_case or camelCase keys, answers are in camelCase; unknown keys are refused. Times "
        "are ISO 8601 in UTC. Lists are bare arrays in pages. Errors are problem details "
        "(RFC 9457), whose `detail` says what to do."
    ),
    "VERSION": __version__,
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_PATCH": False,
    "COMPONENT_NO_READ_ONLY_REQUIRED": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENFORCE_NON_BLANK_FIELDS": True,
    "PREPROCESSING_HOOKS": ["amplifierd.common.openapi.operation.select_paths"],
    "POSTPROCESSING_HOOKS": ["amplifierd.common.openapi.operation.complete"],
    # Relative: the client that fetched the document knows the host.
    "SERVERS": [{"url": PREFIX or "/"}],
}

# Decides which caller gets which hints; nothing is stored, so django_eventstream needs no tables.
EVENTSTREAM_CHANNELMANAGER_CLASS = "sessions_app.streaming.feed.OwnerChannels"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "class": "sessions_app.engine.config.RedactingFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    # Errors of clients are in their answers, and need not be in the log.
    "loggers": {"django.request": {"level": "ERROR"}},
    "root": {"handlers": ["console"], "level": env.text("AMPLIFIERD_LOG_LEVEL", "WARNING")},
}
