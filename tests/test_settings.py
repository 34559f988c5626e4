from pathlib import Path

import pytest

from assistant.settings import SettingsError, load_settings


def test_flags_over_environment_over_dotenv_over_defaults(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("CRASHCART_PORT=1000\nCRASHCART_EMBEDDER=openai:x\nCRASHCART_LANG=zh\n")
    settings = load_settings({"CRASHCART_PORT": "2000", "CRASHCART_LANG": "en"}, dotenv, lang="auto", port=None)
    assert (settings.port, settings.embedder, settings.lang, settings.model) == (2000, "openai:x", "auto", "none")


@pytest.mark.parametrize(("name", "value"), [("PORT", "many"), ("LANG", "fr"), ("PROBE_SECONDS", "soon")])
def test_a_bad_setting_is_one_sentence(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings({f"CRASHCART_{name}": value}, tmp_path / ".env")
    assert "\n" not in str(error.value)
