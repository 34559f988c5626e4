import pytest

from assistant.language import detect_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("vLLM dies at start-up", "en"),
        ("首个 token 要等 8 秒,怎么优化?", "zh"),
        ("vLLM 启动报错 torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "zh"),
        ("Why does vllm serve Qwen/通义千问 fail with a long explanation in English about everything?", "en"),
        ("ValueError: max seq len\n这是什么原因", "zh"),
        ("", "en"),
    ],
)
def test_the_language_is_that_of_the_persons_words(text: str, language: str) -> None:
    assert detect_language(text) == language
