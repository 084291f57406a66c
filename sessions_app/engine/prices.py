"""What is known of models: what their tokens cost, and how many they can read."""

from functools import lru_cache
from typing import Any

from sessions_app.engine.config import number
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.wire.events import Usage


def price_of(usage: Usage, provider: Provider, model: str) -> float | None:
    """Return what an answer has cost in US dollars; None if the price of its model is not known."""
    # Late: the list of prices takes a moment to load.
    import genai_prices

    counted = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
    )
    url = str(provider.config.get("base_url") or "")
    places: list[dict[str, Any]] = [{"provider_api_url": url}, {"provider_id": provider.vendor}]
    for where in (place for place in places if any(place.values())):
        try:
            return float(genai_prices.calc_price(counted, model, **where).total_price)
        except LookupError:
            continue
    return None


def context_window(provider: Provider) -> int | None:
    """Return the tokens that the provider's model can read; None if that is not known.

    Its config may say it as `context_window`. Raises EngineError `bad_config` for no number.
    """
    if provider.config.get("context_window") is not None:
        return int(number(provider.config, provider.module, "context_window", int))
    return provider.can.context_window or _known_window(
        provider.model, str(provider.config.get("base_url") or ""), provider.vendor
    )


@lru_cache(maxsize=256)
def _known_window(model: str, base_url: str, vendor: str) -> int | None:
    from genai_prices.data_snapshot import get_snapshot

    for url, name in ((base_url, None), (None, vendor)):
        try:
            if url or name:
                return get_snapshot().find_provider_model(model, None, name, url)[1].context_window
        except LookupError:
            continue
    return None
