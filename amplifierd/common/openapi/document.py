"""The document itself, and the pages that show it."""

import json
from functools import cache
from typing import Any

from csp.constants import SELF
from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from rest_framework.exceptions import MethodNotAllowed

from amplifierd.common.problems import problem_of, respond


@cache
def document() -> str:
    """Return the description of the API as JSON, the same text for the same code."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


@csrf_exempt
def openapi_json(request: HttpRequest) -> HttpResponse:
    """Answer with the description of the API; it is no secret."""
    if request.method not in ("GET", "HEAD"):
        # Below /api/ no answer is a page.
        return respond(problem_of(MethodNotAllowed(request.method or "")))
    return HttpResponse(document(), content_type="application/json")


@require_safe
@csp_update({"img-src": [SELF, "data:"]})
def docs(request: HttpRequest) -> HttpResponse:
    """Show the API to people; every file that the page loads is ours."""
    return render(request, "amplifierd/docs.html")
