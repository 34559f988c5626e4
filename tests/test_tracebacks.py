"""The exception that started it: in lines that servers printed (tests/fixtures/logs) and in the shapes that logs take."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from probes.scanner import RootException, ScanReport, scan_files, scan_text

LOGS = Path(__file__).parent / "fixtures" / "logs"

RECORDED = [
    ("vllm_v1_free_memory_worker", "ValueError", "Free memory on device (31.44/47.38 GiB)", 1),
    ("vllm_v1_free_memory", "ValueError", "Free memory on device (3.22/4.0 GiB)", 4),
    ("vllm_v1_kv_cache", "ValueError", "To serve at least one request", 9),
    ("vllm_v1_assertion", "AssertionError", "assert new_spec.page_size_bytes == max_page_size", 8),
    ("vllm_v1_workers_nccl", "RuntimeError", "NCCL error: unhandled cuda error", 4),
    ("vllm_v1_engine_wrapper", "RuntimeError", "Engine core initialization failed.", 7),
    ("vllm_v1_worker_proc_wrapper", "Exception", "WorkerProc initialization failed", 5),
    ("vllm_v1_engine_dead", "vllm.v1.engine.exceptions.EngineDeadError", "EngineCore encountered an issue.", 3),
    ("vllm_v0_kv_cache", "ValueError", "The model's max seq len (8192)", 5),
    ("vllm_v0_worker_oom", "torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 1.88 GiB.", 1),
    ("vllm_v0_timeout", "asyncio.exceptions.TimeoutError", "", 8),
    (
        "vllm_v0_engine_dead_group",
        "vllm.engine.async_llm_engine.AsyncEngineDeadError",
        "Task finished unexpectedly.",
        2,
    ),
    ("vllm_max_model_len", "pydantic_core._pydantic_core.ValidationError", "1 validation error for ModelConfig", 4),
    ("vllm_unrecognized_argument", "vllm: error", "unrecognized arguments: --temperature 0.8", 4),
    ("vllm_docker_no_kernel", "RuntimeError", "CUDA error: no kernel image is available", 6),
    ("vllm_hub_401", "requests.exceptions.HTTPError", "401 Client Error: Unauthorized for url", 8),
    ("hub_offline_pipes", "urllib3.exceptions.MaxRetryError", "HTTPSConnectionPool(host='huggingface.co'", 6),
    ("sglang_illegal_memory", "RuntimeError", "CUDA error: an illegal memory access", 8),
    ("sglang_nccl_no_indent", "RuntimeError", "NCCL error: unhandled system error", 8),
    ("sglang_router", "AttributeError", "'NoneType' object has no attribute 'cpu'", 9),
    ("sglang_gated", "OSError", "You are trying to access a gated repo.", 3),
    ("ray_worker_nccl", "RuntimeError", "NCCL error: unhandled system error", 3),
    ("ray_actor_died", "ray.exceptions.ActorDiedError", "The actor died unexpectedly", 6),
    ("elastic_child_failed", "torch.distributed.elastic.multiprocessing.errors.ChildFailedError", "", 1),
    ("native_c10", "terminate called", "CUDA error: initialization error", 2),
]


@pytest.mark.parametrize(("name", "exception", "message", "line"), RECORDED)
def test_the_root_of_a_recorded_log(name: str, exception: str, message: str, line: int) -> None:
    root = scan_files([LOGS / f"{name}.log"], []).root
    assert root is not None
    assert (root.exception, root.line) == (exception, line)
    assert root.message.startswith(message)


@pytest.mark.parametrize("name", ["ray_ignored_exception", "vllm_compose_cancelled"])
def test_what_python_ignores_and_what_was_cancelled_is_no_root(name: str) -> None:
    report = scan_files([LOGS / f"{name}.log"], [])
    assert report.root is None
    assert [t.origin for t in report.tracebacks] == ["noise"]


def scan(text: str) -> ScanReport:
    return scan_text(dedent(text).strip("\n"), [], name="log")


def root_of(text: str) -> RootException:
    root = scan(text).root
    assert root is not None
    return root


INTERLEAVED = r"""
    (EngineCore_DP0 pid=20) ERROR 11-14 15:11:23 [core.py:844] EngineCore encountered a fatal error.
    (EngineCore_DP0 pid=20) ERROR 11-14 15:11:23 [core.py:844] Traceback (most recent call last):
    (APIServer pid=10) ERROR 11-14 15:11:23 [async_llm.py:525] AsyncLLM output_handler failed.
    (EngineCore_DP0 pid=20) ERROR 11-14 15:11:23 [core.py:844]   File "/x/vllm/v1/engine/core.py", line 835, in run_engine_core
    (APIServer pid=10) ERROR 11-14 15:11:23 [async_llm.py:525] Traceback (most recent call last):
    (EngineCore_DP0 pid=20) Process EngineCore_DP0:
    (EngineCore_DP0 pid=20) ERROR 11-14 15:11:23 [core.py:844]     engine_core.run_busy_loop()
    (EngineCore_DP0 pid=20) Traceback (most recent call last):
    (APIServer pid=10) ERROR 11-14 15:11:23 [async_llm.py:525]   File "/x/vllm/v1/engine/async_llm.py", line 477, in output_handler
    (EngineCore_DP0 pid=20)   File "/usr/lib/python3.12/multiprocessing/process.py", line 314, in _bootstrap
    (EngineCore_DP0 pid=20) ERROR 11-14 15:11:23 [core.py:844] torch.AcceleratorError: CUDA error: an illegal memory access was encountered
    (APIServer pid=10) ERROR 11-14 15:11:23 [async_llm.py:525]     outputs = await engine_core.get_output_async()
    (EngineCore_DP0 pid=20) ERROR 11-14 15:11:23 [core.py:844] CUDA kernel errors might be asynchronously reported at some other API call
    (APIServer pid=10) ERROR 11-14 15:11:23 [async_llm.py:525] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.
    (EngineCore_DP0 pid=20)     self.run()
    (EngineCore_DP0 pid=20) torch.AcceleratorError: CUDA error: an illegal memory access was encountered
"""


def test_processes_that_write_at_once_are_told_apart() -> None:
    report = scan(INTERLEAVED)
    assert report.root == RootException(
        "torch.AcceleratorError",
        "CUDA error: an illegal memory access was encountered\n"
        "CUDA kernel errors might be asynchronously reported at some other API call",
        "log",
        11,
    )
    assert [(t.process, t.origin, t.count) for t in report.tracebacks] == [
        ("EngineCore_DP0 pid=20", "engine", 2),
        ("APIServer pid=10", "secondary", 1),
    ]
    assert "get_output_async" not in report.tracebacks[0].text


def test_the_worker_comes_before_the_engine_and_the_server() -> None:
    root = root_of("""
        (APIServer pid=1) INFO 11-22 20:33:00 [api_server.py:1] starting
        (VllmWorker TP1 pid=9) ERROR 11-22 20:33:01 [multiproc_executor.py:511] WorkerProc failed to start.
        (VllmWorker TP1 pid=9) ERROR 11-22 20:33:01 [multiproc_executor.py:511] Traceback (most recent call last):
        (VllmWorker TP1 pid=9) ERROR 11-22 20:33:01 [multiproc_executor.py:511]   File "/x/gpu_worker.py", line 1, in load_model
        (VllmWorker TP1 pid=9) ERROR 11-22 20:33:01 [multiproc_executor.py:511] torch.OutOfMemoryError: CUDA out of memory.
        (EngineCore_DP0 pid=2) ERROR 11-22 20:33:02 [core.py:708] EngineCore failed to start.
        (EngineCore_DP0 pid=2) ERROR 11-22 20:33:02 [core.py:708] Traceback (most recent call last):
        (EngineCore_DP0 pid=2) ERROR 11-22 20:33:02 [core.py:708]   File "/x/core.py", line 1, in run_engine_core
        (EngineCore_DP0 pid=2) ERROR 11-22 20:33:02 [core.py:708] Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.
        (APIServer pid=1) Traceback (most recent call last):
        (APIServer pid=1)   File "/usr/local/bin/vllm", line 8, in <module>
        (APIServer pid=1)     sys.exit(main())
        (APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
        """)
    assert (root.exception, root.message, root.line) == ("torch.OutOfMemoryError", "CUDA out of memory.", 5)


def test_ranks_that_die_of_a_dead_peer_are_not_the_root() -> None:
    root = root_of("""
        [rank1]: Traceback (most recent call last):
        [rank0]: Traceback (most recent call last):
        [rank1]:   File "/x/a.py", line 1, in f
        [rank0]:   File "/x/a.py", line 1, in f
        [rank1]: torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error
        [rank0]:     raise ValueError(
        [rank0]: ValueError: the vocabulary is not divisible by 8
        """)
    assert (root.exception, root.line) == ("ValueError", 7)


def test_sglang_marks_only_the_first_line_of_a_record() -> None:
    report = scan("""
        [2025-01-01 10:00:00 TP1] Load weight begin. avail mem=21.73 GB
        [2025-01-01 10:00:00 TP0] Scheduler hit an exception: Traceback (most recent call last):
          File "/x/sglang/srt/managers/scheduler.py", line 1, in run_scheduler_process
            scheduler = Scheduler(
        KeyError: 'model.layers.0.qkv'

        During handling of the above exception, another exception occurred:

        Traceback (most recent call last):
          File "/x/sglang/srt/model_loader/loader.py", line 2, in clean_up
        RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.

        [2025-01-01 10:00:01 TP1] Scheduler hit an exception: Traceback (most recent call last):
          File "/x/sglang/srt/managers/scheduler.py", line 1, in run_scheduler_process
        RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.
        [2025-01-01 10:00:02] Received sigquit from a child process. It usually means the child failed.
        Killed
        """)
    assert [t.process for t in report.tracebacks] == ["TP0", "TP1"]
    assert [link.exception for link in report.tracebacks[0].links] == ["KeyError", "RuntimeError"]
    assert report.tracebacks[1].links[0].message.endswith("--mem-fraction-static.")
    assert report.root is not None
    assert (report.root.exception, report.root.line) == ("KeyError", 5)


def test_a_failed_lookup_gives_way_to_its_explanation() -> None:
    root = root_of("""
        Traceback (most recent call last):
          File "/x/transformers/auto.py", line 10, in from_pretrained
            config_class = CONFIG_MAPPING[config_dict["model_type"]]
          File "/x/transformers/auto.py", line 5, in __getitem__
            raise KeyError(key)
        KeyError: 'qwen3'

        During handling of the above exception, another exception occurred:

        Traceback (most recent call last):
          File "/x/vllm/config.py", line 3, in get_config
          File "/x/transformers/auto.py", line 12, in from_pretrained
            raise ValueError(
        ValueError: The checkpoint you are trying to load has model type `qwen3`
        """)
    assert (root.exception, root.line) == ("ValueError", 14)


def test_a_handler_that_fails_itself_is_not_the_root() -> None:
    root = root_of("""
        Traceback (most recent call last):
          File "/x/executor.py", line 10, in _init_executor
            self.workers = start()
        AttributeError: 'NoneType' object has no attribute 'device'

        During handling of the above exception, another exception occurred:

        Traceback (most recent call last):
          File "/x/executor.py", line 99, in shutdown
        AttributeError: 'MultiprocExecutor' object has no attribute 'workers'
        """)
    assert root.line == 4


def test_the_first_of_a_chain_of_causes() -> None:
    report = scan("""
        Traceback (most recent call last):
          File "/x/urllib3/connection.py", line 1, in _new_conn
        socket.gaierror: [Errno -3] Temporary failure in name resolution

        The above exception was the direct cause of the following exception:

        Traceback (most recent call last):
          File "/x/urllib3/connectionpool.py", line 2, in urlopen
        urllib3.exceptions.NameResolutionError: Failed to resolve 'huggingface.co'

        The above exception was the direct cause of the following exception:

        Traceback (most recent call last):
          File "/x/transformers/hub.py", line 3, in cached_file
        OSError: We couldn't connect to 'https://huggingface.co' to load this file
        """)
    assert [link.exception for link in report.tracebacks[0].links] == [
        "socket.gaierror",
        "urllib3.exceptions.NameResolutionError",
        "OSError",
    ]
    assert report.root is not None
    assert report.root.exception == "socket.gaierror"


def test_the_remote_exception_behind_a_ray_task_error() -> None:
    root = root_of("""
        Traceback (most recent call last):
          File "/x/ray/_private/worker.py", line 2, in get
            raise value.as_instanceof_cause()
        ray.exceptions.RayTaskError(ValueError): ray::RayWorkerWrapper.execute_method() (pid=10, ip=10.0.0.1, actor_id=ab)
                   ^^^^^^^^^^^^^^^
          File "/x/vllm/worker/worker.py", line 3, in load_model
            self.model_runner.load_model()
        ValueError: Unknown quantization method: foo
        """)
    assert (root.exception, root.line) == ("ValueError", 8)


def test_the_member_of_an_exception_group() -> None:
    report = scan("""
        ERROR:    Exception in ASGI application
          + Exception Group Traceback (most recent call last):
          |   File "/x/anyio/_asyncio.py", line 1, in __aexit__
          |     raise BaseExceptionGroup(
          | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
          +-+---------------- 1 ----------------
            | Traceback (most recent call last):
            |   File "/x/starlette/responses.py", line 2, in wrap
            |     await func()
            | jinja2.exceptions.TemplateError: Conversation roles must alternate
            +------------------------------------
        """)
    assert report.tracebacks[0].origin == "request"
    assert report.root is not None
    assert (report.root.exception, report.root.line) == ("jinja2.exceptions.TemplateError", 10)


def test_lost_indentation() -> None:
    root = root_of("""
        ERROR 05-23 09:31:47 [core.py:396] Traceback (most recent call last):
        ERROR 05-23 09:31:47 [core.py:396] File "/x/vllm/v1/engine/core.py", line 387, in run_engine_core
        ERROR 05-23 09:31:47 [core.py:396] engine_core = EngineCoreProc(*args, **kwargs)
        ERROR 05-23 09:31:47 [core.py:396] ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        ERROR 05-23 09:31:47 [core.py:396] ValueError: no cache blocks
        """)
    assert (root.exception, root.line) == ("ValueError", 5)


def test_rich_and_notebook_tracebacks() -> None:
    rich = root_of("""
        ╭──────────── Traceback (most recent call last) ────────────╮
        │ /x/train.py:1 in <module>                                 │
        ╰───────────────────────────────────────────────────────────╯
        ValueError: expected value at line 1 column 1
        """)
    notebook = root_of("""
        RuntimeError                              Traceback (most recent call last)
        Cell In[5], line 1
        ----> 1 llm = LLM("m")

        RuntimeError: no GPU
        """)
    assert rich.line == 4
    assert notebook.line == 5


def test_an_exception_without_traceback_counts_only_where_there_is_none() -> None:
    lines = """
        WARNING 11-22 20:33:01 [a.py:1] ImportError: No module named 'flash_attn', falling back
        ERROR 11-22 20:33:01 [a.py:2] could not start: torch.OutOfMemoryError: CUDA out of memory.
        """
    assert root_of(lines).line == 2
    assert (
        root_of(
            lines
            + """
        Traceback (most recent call last):
          File "a.py", line 1, in <module>
        ValueError: bad configuration
        """
        ).exception
        == "ValueError"
    )


def test_a_question_that_names_an_exception() -> None:
    root = root_of("I get RuntimeError: CUDA error: invalid device ordinal when I start vLLM, what now?")
    assert root.exception == "RuntimeError"


def test_an_engine_failure_comes_before_an_earlier_failed_request() -> None:
    root = root_of("""
        ERROR:    Exception in ASGI application
        Traceback (most recent call last):
          File "/x/uvicorn/protocols/http/httptools_impl.py", line 1, in run_asgi
        ValueError: bad request

        (EngineCore_DP0 pid=2) ERROR 11-22 20:33:02 [core.py:708] Traceback (most recent call last):
        (EngineCore_DP0 pid=2) ERROR 11-22 20:33:02 [core.py:708]   File "/x/core.py", line 1, in run
        (EngineCore_DP0 pid=2) ERROR 11-22 20:33:02 [core.py:708] IndexError: list index out of range
        """)
    assert (root.exception, root.line) == ("IndexError", 8)


def test_messages_keep_six_lines_and_no_secret() -> None:
    body = "\n".join(f"detail {i}" for i in range(10))
    report = scan_text(
        f'Traceback (most recent call last):\n  File "a", line 1, in f\nValueError: --api-key abc123xyz\n{body}', []
    )
    assert report.root is not None
    assert len(report.root.message.splitlines()) == 6
    assert "abc123xyz" not in report.root.message
    assert "abc123xyz" not in report.tracebacks[0].text


def test_a_traceback_in_json_records() -> None:
    record = '{"log":"%s","stream":"stderr","time":"2025-11-22T20:33:01.5Z"}'
    lines = [
        "\\u001b[1;36m(EngineCore pid=7)\\u001b[0;0m Traceback (most recent call last):\\n",
        '(EngineCore pid=7)   File \\"/x/a.py\\", line 1, in f\\n',
        '(EngineCore pid=7) ValueError: \\"quoted\\"\\n',
    ]
    report = scan_text("\n".join(record % line for line in lines), [], name="log")
    assert report.root == RootException("ValueError", '"quoted"', "log", 3)
    whole = '{"level": "ERROR", "message": "failed", "exc_info": "Traceback (most recent call last):\\n  File \\"a\\", line 1, in f\\nValueError: x"}'
    assert scan_text(whole, [], name="log").root == RootException("ValueError", "x", "log", 1)


def test_the_traceback_around_a_line() -> None:
    from kb.types import Signature

    signature = Signature("oom", "oom", "cause", "illegal memory access", "")
    report = scan_text(dedent(INTERLEAVED), [signature], name="log")
    around = report.traceback_around(report.matches[0].first)
    assert around is not None
    assert around.text.startswith('Traceback (most recent call last):\n  File "/x/vllm/v1/engine/core.py", line 835')


def test_a_flood_of_tracebacks_is_bounded_and_its_end_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.scanner.failures.LINES_READ", 50)
    failed = 'Traceback (most recent call last):\n  File "a", line 1, in f\nValueError: request 1\n'
    last = '(EngineCore pid=7) Traceback (most recent call last):\n(EngineCore pid=7)   File "b", line 1, in g\n(EngineCore pid=7) MemoryError: gone\n'
    report = scan_text(failed * 1000 + last, [], name="log")
    assert report.root == RootException("MemoryError", "gone", "log", 3003)


@pytest.mark.parametrize(
    "prefix",
    [
        "vllm-1  | ",
        "2025-11-22T10:38:57.216715364Z ",
        "2025-11-22T10:38:57.216715364+08:00 stderr F ",
        "[pod/vllm-0/vllm] ",
        "Nov 22 20:33:01 host vllm[1234]: ",
        "2025-11-22 20:33:01.890 | ",
        "[2025-11-22T20:33:01.703Z] [2025-11-22 20:33:01 TP0] ",
        "> ",
        "[rank3]: ",
        "(raylet, ip=10.0.0.1) ",
        "(RayWorkerWrapper pid=123, ip=10.0.0.2) ",
        "(LLMActor pid=1) (EngineCore_0 pid=2) ",
        "\x1b[1;36m(EngineCore_DP0 pid=9)\x1b[0;0m ",
        "[1;36m(EngineCore_DP0 pid=9)[0;0m ",
        "(Worker pid=7) [Stage-0] ERROR 11-22 20:33:01 [multiproc_executor.py:800] ",
        "(EngineCore pid=7) ERROR 11-22 20:33 [v1/engine/core.py:708] ",
        "ERROR 11-22 20:33:01 engine.py:389] ",
        "2025-11-22 20:33:01 | ERROR | stderr | ",
        "2025-11-22 20:33:01,123 - vllm.engine - ERROR - ",
        "E1122 20:33:01.366000 32974 torch/distributed/elastic/api.py:900] ",
    ],
)
def test_what_stands_before_a_line(prefix: str) -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "/x/a.py", line 1, in f',
        "    g()",
        "ValueError: bad",
        "more of it",
    ]
    around = ["vllm-1  | INFO:     started", *(prefix + line for line in lines), "INFO 11-22 20:33:02 [a.py:1] bye"]
    report = scan_text("\n".join(around), [], name="log")
    assert report.root == RootException("ValueError", "bad\nmore of it", "log", 5)
    assert report.tracebacks[0].text == "\n".join(lines)
