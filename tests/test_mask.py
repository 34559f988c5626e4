"""Masking: every kind of secret goes, its mark stays the same and leaves commands whole, and clean logs stay untouched."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from probes.reading.mask import Masker, mask

LOGS = Path(__file__).parent / "fixtures" / "logs"

HEX = "0123456789abcdef0123456789abcdef01234567"
WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789"
"""Parts of secrets are joined here, so that no whole one stands in this file."""
PEM = (
    "-----BEGIN OPENSSH "
    + "PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\nAAAAQyNTUxOQ==\n-----END OPENSSH "
    + "PRIVATE KEY-----"
)

SECRETS = [
    ("hf_token", f"hf_{WORD[:34]}", "token is {}"),
    ("hf_token", f"hf_{WORD[:34]}", "hf_token='{}', revision=None"),
    ("openai_key", f"sk-{WORD[:40]}", "Incorrect API key provided: {}."),
    ("openai_key", f"sk-proj-{WORD[:20]}-_{WORD[:20]}", "key {} used"),
    ("anthropic_key", f"sk-ant-api03-{WORD[:30]}", "key {} used"),
    ("aws_access_key", "AKIA" + "IOSFODNN7EXAMPLE", "id={}"),
    ("aws_access_key", "ASIA" + "IOSFODNN7EXAMPLE", '"{}"'),
    ("key", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = {}"),
    ("key", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AWS_SECRET_ACCESS_KEY={} python"),
    ("github_token", f"ghp_{WORD[:36]}", "https://{}@github.com/a/b"),
    ("github_token", f"gho_{WORD[:36]}", "{}"),
    ("github_token", f"github_pat_11ABC_{WORD[:36]}", "{}"),
    ("gitlab_token", f"glpat-{WORD[:20]}", "PRIVATE-TOKEN: {}"),
    ("slack_token", "xoxb-123456789012-" + WORD[:24], "token={}"),
    ("slack_webhook", "T00000000/B00000000/" + WORD[:24], "https://hooks.slack.com/services/{}"),
    ("discord_webhook", "123456789012345678/" + WORD[:40], "https://discord.com/api/webhooks/{}"),
    ("jwt", f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{WORD[:30]}", "cookie {} end"),
    ("private_key", PEM, "a\n{}\nb"),
    ("private_key", PEM.replace("\n", "\\n"), '"key": "{}"'),
    ("private_key", "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabc", "{}"),
    ("authorization", "token-abc123", 'curl -H "Authorization: Bearer {}" http://x'),
    ("authorization", "dXNlcjpwYXNz", "authorization: Basic {}"),
    ("authorization", "tokenabc", "'Authorization': 'Bearer {}'"),
    ("bearer", "abcdef123456", "invalid bearer {}"),
    ("cookie", "session=abc123; csrftoken=zzz", "Cookie: {}"),
    ("cookie", "session=abc123", '"set-cookie": "{}"'),
    ("url_password", "s3cr3t", "postgres://user:{}@db:5432/x"),
    ("url_password", "pw", "redis://:{}@cache"),
    ("url_token", WORD, "https://{}@example.org/simple"),
    ("api_key", "token-abc123", "vllm serve m --api-key {} --port 8000"),
    ("api_key", "secret", "vllm serve m --api-key={}"),
    ("api_key", "abc", '"args": ["--api-key", "{}"]'),
    ("api_key", "topsecret", '- "--api-key"\n- "{}"'),
    ("api_key", "topsecret", "- --api-key\n- {}\n"),
    ("hf_token", "whatever", "--hf-token {}"),
    ("password", "hunter2", "--ssl-keyfile-password {}"),
    ("password", "correct horse battery", '--password "{}"'),
    ("api_key", "abcdef1234567890", "x-api-key: {}"),
    ("api_key", "abc", '{{"api_key": "{}", "n": 1}}'),
    ("api_key", "abc", '{{\\"api_key\\": \\"{}\\"}}'),
    ("api_key", "abc", "Namespace(host=None, api_key=['{}'], port=8000)"),
    ("api_key", "abc123", "non-default args: {{'api_key': ['{}']}}"),
    ("password", "hunter2", '"password": "{}"'),
    ("password", "hunter2xyz0123", "password: {}"),
    ("token", "hvs-abcdef-1234567890", "auth_token: {}"),
    ("api_key", HEX, "WANDB_API_KEY={}"),
    ("wandb_key", HEX, "wandb login --relogin {}"),
    ("token", "abc", "docker run -e MY_TOKEN={} image"),
    ("key", "zz yy", 'SECRET_KEY="{}"'),
    ("password", "hunter", "DB_PASSWORD: {}\n"),
    ("api_key", "abc", "- name: API_KEY\n  value: {}\n"),
    ("api_key", "abc", '{{"name": "API_KEY", "value": "{}"}}'),
    ("google_key", "AIza" + "SyA1234567890" + WORD[:22], "?key={}"),
    ("google_secret", f"GOCSPX-{WORD[:28]}", "{}"),
    ("key", f"{WORD}{WORD}==", "AccountName=x;AccountKey={};EndpointSuffix=y"),
    ("npm_token", f"npm_{WORD[-36:]}", "{}"),
    ("pypi_token", f"pypi-AgEIcHlwaS5vcmc{WORD}", "{}"),
    ("digitalocean_token", f"dop_v1_{HEX}", "{}"),
    ("ngc_key", f"nvapi-{WORD[:30]}-_x", "NGC_API_KEY={}"),
    ("telegram_token", "123456789:AA" + WORD[:33], "bot{} up".replace("bot", "bot ")),
    ("stripe_key", "sk_live_" + WORD[:24], "{}"),
    ("sendgrid_key", f"SG.{WORD[:22]}.{WORD[:40]}", "{}"),
    ("groq_key", f"gsk_{WORD}", "{}"),
    ("docker_token", f"dckr_pat_{WORD[:27]}", "docker login -p {}"),
    ("databricks_token", "dapi" + HEX[:32], "{}"),
    ("modelscope_token", "ms-01234567-89ab-cdef-0123-456789abcdef", "{}"),
    ("signature", HEX, "GET https://cdn.example.org/x?Expires=1&Signature={}&Key-Pair-Id=K"),
    ("password", "hunter2", "machine api.wandb.ai login user password {}"),
    ("password", "pass", "curl -u user:{} http://x"),
]


@pytest.mark.parametrize(("kind", "secret", "text"), SECRETS)
def test_a_secret_becomes_its_mark(kind: str, secret: str, text: str) -> None:
    masked = Masker().mask(text.format(secret))
    assert masked == text.format(f"MASKED-{kind}-1")
    assert Masker().mask(masked) == masked


def test_at_least_25_kinds() -> None:
    assert len({kind for kind, _, _ in SECRETS}) >= 25


CLEAN = [
    "Initializing a V1 LLM engine (v0.11.0) with config: model='m', tokenizer='m', skip_tokenizer_init=False, tokenizer_mode=auto, revision=None, seed=0",
    "Namespace(host=None, port=8000, api_key=None, hf_token=None, ssl_keyfile=None, ssl_certfile='/etc/tls.crt', max_tokens=16)",
    "SamplingParams(n=1, top_k=-1, seed=None, stop_token_ids=[128001], max_tokens=16, logprobs=None), prompt_token_ids: [128000, 5519]",
    '{"choices": [{"logprobs": {"content": [{"token": "Hello", "logprob": -0.1, "bytes": [72]}]}}], "usage": {"total_tokens": 12}}',
    "vllm serve m --max-num-batched-tokens 8192 --tokenizer m --kv-cache-dtype fp8 --max-model-len 8192 --token-budget 1",
    "Avg prompt throughput: 2411.0 tokens/s, Avg generation throughput: 247.2 tokens/s, GPU KV cache usage: 0.4%",
    'HF_TOKEN is not set. HF_TOKEN= HF_TOKEN: not set; HF_TOKEN unset; $HF_TOKEN; ${HF_TOKEN}; -H "Authorization: Bearer $VLLM_API_KEY"',
    "export HF_TOKEN=hf_xxx; --api-key EMPTY; api_key='EMPTY'; OPENAI_API_KEY=<your key>; --api-key YOUR_API_KEY; api_key=\"KEY\"",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 commit 3b18bdf0ee6c2c1fa2c8b8c6f1e9d2d5a9c4b7aa",
    "Received request chatcmpl-3f2504e0-4f89-11d3-9a0c-0305e82c3301: key=value cache_key=abc123def456 block_hash=12345 routing_key: r-1",
    "KeyError: 'model.layers.0.self_attn.q_proj.weight' Missing key(s) in state_dict: \"lm_head.weight\"",
    "    client = AsyncOpenAI(api_key=openai_api_key, base_url=url, token=token, password=self.password)",
    "    def __init__(self, api_key: str, hf_token: Optional[str] = None, password: SecretStr | None = None):",
    "    if self.api_key == other.api_key and token != old: api_key = get_api_key()",
    "eos_token='</s>' pad_token=<pad> bos_token: <s> EOS_TOKEN=</s> image_token=<image> mask_token=[MASK] num_tokens=5",
    "max_num_batched_tokens=8192, token_ids=[1, 2], tokens=12, tokens_per_second=3 VLLM_CACHE_KEY=x PRIMARY_KEY=id",
    "use --api-key to set the key, the --api-key flag or the --password option is required; unrecognized arguments: --api-key",
    "the password is wrong; token: invalid; secret: see docs; error: missing token: please log in",
    "http://10.0.0.1:8000/v1/models redis://localhost:6379 git@github.com:a/b.git https://user@host/x ssh://node-1@10.0.0.2",
    "model Qwen/Qwen2.5-72B-Instruct-AWQ snapshot 0123456789abcdef0123456789abcdef01234567 task-abcdefghijklmnop1234567890",
    "vllm.transformers_utils.tokenizer_group: hf_overrides={} hf_config_path=None HF_HUB_ENABLE_HF_TRANSFER=1 hf_transfer",
    "GPU 0: NVIDIA H100 (UUID: GPU-01234567-89ab-cdef-0123-456789abcdef) xid 79 gl-driver npm_config_cache=/x pypi-mirror",
    'INFO:     10.0.0.1:51234 - "GET /v1/models?limit=10&key=short&token=1 HTTP/1.1" 200 OK',
    "Bearer authentication failed; WWW-Authenticate: Bearer; cookie policy: none; basic auth",
    "ray object ref 00ffffffffffffffffffffffffffffffffffffff0100000001000000, session_2025-11-22_20-33-01_123456_1",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
]


@pytest.mark.parametrize("line", CLEAN)
def test_a_clean_line_stays(line: str) -> None:
    assert Masker().mask(line) == line


def test_recorded_logs_and_the_knowledge_base_stay() -> None:
    for path in [*LOGS.glob("*.log"), *(Path(__file__).parents[1] / "kb" / "docs").glob("*.md")]:
        text = path.read_text()
        assert Masker().mask(text) == text, path


def test_the_same_secret_has_one_mark_wherever_it_stands() -> None:
    masker = Masker()
    text = f"HF_TOKEN=hf_{WORD[:34]}\n--hf-token hf_{WORD[:34]}\n--api-key abc123\nAuthorization: Bearer abc123\n--api-key other1"
    assert masker.mask(text).splitlines() == [
        "HF_TOKEN=MASKED-hf_token-1",
        "--hf-token MASKED-hf_token-1",
        "--api-key MASKED-api_key-1",
        "Authorization: Bearer MASKED-api_key-1",
        "--api-key MASKED-api_key-2",
    ]
    assert masker.mask("--password other1") == "--password MASKED-api_key-2"
    assert mask("--api-key abc123") == mask("--api-key  abc123").replace("  ", " ")


def test_commands_urls_and_json_stay_whole() -> None:
    command = Masker().mask("vllm serve m --api-key 'a b' --port 8000")
    assert shlex.split(command) == ["vllm", "serve", "m", "--api-key", "MASKED-api_key-1", "--port", "8000"]
    assert shlex.join(shlex.split(command)).replace("'", "") == command.replace("'", "")
    assert urlsplit(Masker().mask("http://u:p4ss@host:80/x")).hostname == "host"
    record = json.dumps({"api_key": "abc", "list": [1], "text": 'say "hi"'})
    assert json.loads(Masker().mask(record)) == {"api_key": "MASKED-api_key-1", "list": [1], "text": 'say "hi"'}


def test_every_item_of_a_list() -> None:
    assert Masker().mask("api_key=['a1', 'b2', 'c3'], port=1") == (
        "api_key=['MASKED-api_key-1', 'MASKED-api_key-2', 'MASKED-api_key-3'], port=1"
    )


def test_other_letters_do_not_shift_marks() -> None:
    assert Masker().mask("İİİ 密钥 --api-key abc123 结束") == "İİİ 密钥 --api-key MASKED-api_key-1 结束"
    assert Masker().mask("") == ""


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "token=" * 30_000, "-key " * 30_000, "=" * 100_000, "://:" * 30_000 + "@", "eyJ" * 50_000]
)
def test_hostile_text_takes_no_long_time(text: str) -> None:
    Masker().mask(text)
